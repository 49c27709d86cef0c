/** deploy/haproxy/haproxy.cfg as it stands, before three servers of a test. */
import { fileURLToPath } from 'node:url'
import { freePort, hasProgram, type Peer, startPeer } from './peer-process.js'

export const HAPROXY_CONFIG = fileURLToPath(new URL('../../deploy/haproxy/haproxy.cfg', import.meta.url))

/** Debian puts it where only root's PATH looks. */
export const haproxy = ['haproxy', '/usr/sbin/haproxy'].find(hasProgram)

/** `inside` is the block of addresses that may call /admin. */
export async function startHaproxy(
  ports: readonly [number, number, number],
  inside = '127.0.0.0/8',
): Promise<Peer & { readonly url: string }> {
  const port = await freePort()
  const [one, two, three] = ports.map((each) => `127.0.0.1:${each}`)
  const env = {
    PROXY_ADDRESS: `127.0.0.1:${port}`,
    SERVER_ONE: one!,
    SERVER_TWO: two!,
    SERVER_THREE: three!,
    INSIDE_HOSTS: inside,
  }
  const peer = await startPeer(haproxy!, ['-f', HAPROXY_CONFIG], port, { ...process.env, ...env })
  return { ...peer, url: `http://127.0.0.1:${port}` }
}
