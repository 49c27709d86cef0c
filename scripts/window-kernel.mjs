/** Makes src/inferers/window-kernel.ts of window-kernel.wat: the bytes of the module, so that nothing has to be found at run time. */
import { readFileSync, writeFileSync } from 'node:fs'
import wabt from 'wabt'

const source = 'src/inferers/window-kernel.wat'
const module = (await wabt()).parseWat(source, readFileSync(source, 'utf8'), { simd: true })
module.validate()
const bytes = Buffer.from(module.toBinary({}).buffer).toString('base64')
const lines = bytes.match(/.{1,110}/g).map((line) => `  '${line}'`)
writeFileSync(
  'src/inferers/window-kernel.ts',
  `/** Made of window-kernel.wat by \`npm run window-kernel\`: the WebAssembly module, in base64. */
export const WINDOW_KERNEL = [
${lines.join(',\n')},
].join('')
`,
)
