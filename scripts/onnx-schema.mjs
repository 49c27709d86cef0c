/** Makes src/onnx/onnx_pb.ts of src/onnx/onnx.proto. Needs protoc on the path (Debian: protobuf-compiler). */
import { spawnSync } from 'node:child_process'

const plugin = 'node_modules/.bin/protoc-gen-es'
const options = ['--es_out=src/onnx', '--es_opt=target=ts,import_extension=none', '-I', 'src/onnx', 'onnx.proto']
const { status, error } = spawnSync('protoc', [`--plugin=${plugin}`, ...options], { stdio: 'inherit' })
if (error) console.error(`protoc did not start: ${error.message}`)
process.exit(status ?? 1)
