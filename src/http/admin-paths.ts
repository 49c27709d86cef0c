/** Which routes are the operator's: what the host guard, the origin check and `--admin-hosts` protect. */

/** True for the pattern of a found route, and for a path as a client wrote it. */
export function isAdminPath(url: string): boolean {
  return /^\/(admin|logs)(\/|$|\?)/i.test(url)
}
