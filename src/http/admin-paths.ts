/** Which routes are not for everybody: what the host guard and the origin check protect, besides the lists of hosts. */

export type IsGuarded = (url: string) => boolean

/** The operator's. True for the pattern of a found route, and for a path as a client wrote it. */
export function isAdminPath(url: string): boolean {
  return /^\/(admin|logs)(\/|$|\?)/i.test(url)
}

/**
 * The datastore's, where there is one: its ids can be listed and guessed. That an image is there is asked by XNAT's viewer
 * of every server, and refused by the route itself in words that it reads.
 */
export function isDatastorePath(url: string): boolean {
  return /^\/(datastore|activelearning)(\/|$|\?)/i.test(url) && !/^\/datastore\/image\/info(\/|$|\?)/i.test(url)
}
