/** The parts of a multipart body, each as a file of its own name. */
export function formData(parts: Readonly<Record<string, string | Uint8Array>>): FormData {
  const body = new FormData()
  for (const [name, part] of Object.entries(parts)) body.append(name, new Blob([part as BlobPart]), name)
  return body
}
