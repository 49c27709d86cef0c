/** Elements of the page by id, and new ones. */

/** Throws when index.html and a module disagree. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`index.html has no #${id}`)
  return element as T
}

type Attributes = Readonly<Record<string, string | number | boolean | undefined>>

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attributes, children)
}

export function makeSvg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly (Node | string)[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children)
}

function fill<E extends Element>(element: E, attributes: Attributes, children: readonly (Node | string)[]): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue
    element.setAttribute(name, value === true ? '' : String(value))
  }
  element.append(...children)
  return element
}

/** A button that does one thing. */
export function button(text: string, action: () => void, attributes: Attributes = {}): HTMLButtonElement {
  const element = make('button', { type: 'button', ...attributes }, text)
  element.addEventListener('click', action)
  return element
}

/** Hands a file to the person, as a download. */
export function download(name: string, content: Blob): void {
  const url = URL.createObjectURL(content)
  const link = make('a', { href: url, download: name })
  document.body.append(link)
  link.click()
  link.remove()
  // The browser has opened the blob by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}
