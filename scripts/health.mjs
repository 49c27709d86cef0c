/** The image's HEALTHCHECK: exit code 0 when the server of this container answers, on the port and by the scheme of its settings. */
import { request as http } from 'node:http'
import { request as https } from 'node:https'

const { AIDANT_PORT: port = '5000', AIDANT_SSL: ssl = 'auto', AIDANT_SSL_CERT: certificate = '' } = process.env
const isPlain = certificate === '' || ['false', '0', 'no', 'off'].includes(ssl.toLowerCase())
const options = { host: '127.0.0.1', port, path: '/health/live', timeout: 4000 }
// Whose certificate it is does not matter to whom it is loopback.
const asking = isPlain ? http(options) : https({ ...options, rejectUnauthorized: false })
asking.on('response', (reply) => process.exit(reply.statusCode === 200 ? 0 : 1))
asking.on('timeout', () => process.exit(1))
asking.on('error', () => process.exit(1))
asking.end()
