/**
 * Every setting the server has: one schema, each with its unit, its default and its reason. Flags, environment variables,
 * `--help` and the table in README.md all come from here.
 */
import { isIP } from 'node:net'
import { z } from 'zod'

const KiB = 1024
const MiB = 1024 * KiB
const GiB = 1024 * MiB

const UNITS: Readonly<Record<string, number>> = { '': 1, k: KiB, m: MiB, g: GiB, t: 1024 * GiB }
const SECONDS: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400 }

/** '512MiB', '2g', '1.5 GB' (all powers of 1024) or a plain number of bytes. */
function toBytes(value: unknown): unknown {
  if (typeof value !== 'string') return value
  const match = /^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*$/i.exec(value)
  return match ? Math.floor(Number(match[1]) * UNITS[match[2]!.toLowerCase()]!) : value
}

/** '90', '90s', '15m', '2h', '1d'. */
function toSeconds(value: unknown): unknown {
  if (typeof value !== 'string') return value
  const match = /^\s*(-?\d+(?:\.\d+)?)\s*([smhd]?)\s*$/i.exec(value)
  return match ? Number(match[1]) * SECONDS[match[2]!.toLowerCase()]! : value
}

function toBoolean(value: unknown): unknown {
  if (typeof value !== 'string') return value
  const word = value.trim().toLowerCase()
  if (['true', '1', 'yes', 'on', ''].includes(word)) return true
  if (['false', '0', 'no', 'off'].includes(word)) return false
  return value
}

function toNumber(value: unknown): unknown {
  return typeof value === 'string' && value.trim() !== '' ? Number(value) : value
}

function toList(value: unknown): unknown {
  const words = Array.isArray(value) ? value : [value]
  return words.flatMap((word) =>
    typeof word === 'string' ? word.split(/[\s,]+/).filter((part) => part !== '') : [word],
  )
}

const bytes = (low: number) =>
  z.preprocess(
    toBytes,
    z.number({ error: 'must be a number of bytes, such as 512MiB' }).int().min(low).max(Number.MAX_SAFE_INTEGER),
  )
/** A timer of Node holds at most 2^31 ms. */
const seconds = (low: number) =>
  z.preprocess(toSeconds, z.number({ error: 'must be a number of seconds, or such as 15m' }).min(low).max(2_147_483))
const count = (low: number, high: number) =>
  z.preprocess(
    toNumber,
    z.number({ error: 'must be a whole number' }).int({ error: 'must be a whole number' }).min(low).max(high),
  )
const countOrAuto = (low: number, high: number) =>
  z.preprocess(
    (value) => (value === 'auto' ? value : toNumber(value)),
    z.custom<number | 'auto'>(
      (value) => value === 'auto' || (Number.isInteger(value) && Number(value) >= low && Number(value) <= high),
      { error: `must be auto or a whole number from ${low} to ${high}` },
    ),
  )
const flag = () => z.preprocess(toBoolean, z.boolean({ error: 'must be true or false' }))
const list = () => z.preprocess(toList, z.array(z.string()))
const hostList = () =>
  z.preprocess(
    toList,
    z.array(z.string().refine(isHostEntry, { error: 'a block is an address and a length, as in 10.0.0.0/8' })),
  )

/** Names as a Host header has them; the port is left out there. */
const nameList = () =>
  z.preprocess(
    toList,
    z.array(
      z.string().refine((entry) => entry === '*' || isHostName(entry), {
        error: 'a host is a name or an address alone, without scheme, port or pattern; * stands for any',
      }),
    ),
  )

function isHostName(entry: string): boolean {
  return isIP(entry.replace(/^\[|\]$/g, '')) !== 0 || /^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$/i.test(entry)
}

const originList = () =>
  z.preprocess(
    toList,
    z
      .array(
        z.string().refine((entry) => ['*', 'none', 'null'].includes(entry) || isOrigin(entry), {
          error: 'an origin is a scheme, a host and perhaps a port, as in https://viewer.example:8443; * or none',
        }),
      )
      .refine((entries) => entries.length === 1 || !entries.includes('none'), { error: 'none stands alone' }),
  )

/** As a browser sends it: no path; a default port is left out. */
function isOrigin(entry: string): boolean {
  const plain = entry.replace(/\/$/, '').toLowerCase()
  if (!/^[a-z][a-z0-9+.-]*:\/\/[^/?#@*\s]+$/.test(plain) || !URL.canParse(plain)) return false
  return !plain.startsWith('http') || new URL(plain).origin === plain
}

/** The base of an HTTP service; a login in it would end up in logs and process lists. */
const serviceUrl = () =>
  z.string().superRefine((entry, context) => {
    const wrong = wrongServiceUrl(entry)
    if (entry !== '' && wrong !== undefined) context.addIssue({ code: 'custom', message: wrong })
  })

function wrongServiceUrl(entry: string): string | undefined {
  const url = URL.canParse(entry) ? new URL(entry) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.hostname === '')
    return 'must be a URL, as in https://pacs.example/dicom-web'
  if (url.username !== '' || url.password !== '') return 'must have no login in it; see --dicomweb-credentials'
  return url.search === '' && url.hash === '' ? undefined : 'must be the base of the service, without ? and #'
}

/** Keys of a QIDO-RS search; those that page through it are ours. */
function isSearch(entry: string): boolean {
  const keys = [...new URLSearchParams(entry)]
  return keys.every(([key, value]) => /^[A-Za-z0-9.]+$/.test(key) && value !== '' && !/^(limit|offset)$/i.test(key))
}

/** Names and addresses are looked up at start; a block can be wrong before that. */
function isHostEntry(entry: string): boolean {
  const [address, bits, rest] = entry.split('/')
  if (bits === undefined) return true
  const version = isIP(address!.replace(/^\[|\]$/g, ''))
  return version !== 0 && rest === undefined && /^\d+$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128)
}

/** What documents a setting beside its schema. */
export interface SettingMeta {
  /** What stands for the value in `--help`: PORT, BYTES, SECONDS … */
  readonly value: string
  readonly group: 'server' | 'access' | 'models' | 'limits' | 'sessions' | 'datastore' | 'fetching' | 'dicomweb'
  readonly help: string
  /** Further names of the flag, of AIAA's. */
  readonly aliases?: readonly string[]
  /** The flag without a value means true, though its values are more than true and false. */
  readonly standsAlone?: boolean
}

const about = (group: SettingMeta['group'], value: string, help: string): SettingMeta & Record<string, unknown> => ({
  group,
  value,
  help,
})

export const Config = z.object({
  host: z
    .string()
    .min(1)
    .default('127.0.0.1')
    .meta(about('server', 'ADDRESS', 'address to listen on; 0.0.0.0 for every network, [::] with IPv6')),
  port: count(0, 65_535)
    .default(5000)
    .meta(about('server', 'PORT', 'TCP port; 0 picks a free one')),
  workspace: z
    .string()
    .min(1)
    .default('workspace')
    .meta(
      about(
        'server',
        'DIR',
        'folder of models, sessions and temporary files; created when absent, refused when it holds other things',
      ),
    ),
  adminHosts: hostList()
    .default(['*'])
    .meta(
      about(
        'server',
        'HOSTS',
        'who may call /admin and /logs: *, or addresses, CIDR blocks and names, by comma; see --trusted-proxies',
      ),
    ),
  trustedProxies: hostList()
    .refine((entries) => !entries.includes('*'), {
      error: 'a proxy is named by its address; * would let everybody say who they are',
    })
    .default([])
    .meta(
      about(
        'server',
        'HOSTS',
        'reverse proxies whose X-Forwarded-For, -Proto and -Host are believed: addresses, CIDR blocks, names',
      ),
    ),
  allowedHosts: nameList()
    .default([])
    .meta(
      about(
        'server',
        'NAMES',
        'further Host header names to answer for /admin and /logs, and on a loopback bind for all; * for any',
      ),
    ),
  corsOrigins: originList()
    .default(['*'])
    .meta(
      about(
        'server',
        'ORIGINS',
        'web origins whose pages may call the API; * for any (never /admin or /logs), none for no page at all',
      ),
    ),
  autoReload: flag()
    .default(false)
    .meta(about('server', 'BOOLEAN', 'follow model changes that other servers make in the same workspace, within 5 s')),
  logLevel: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
    .default('info')
    .meta(about('server', 'LEVEL', 'trace, debug, info, warn, error, fatal or silent')),
  debug: flag()
    .default(false)
    .meta(about('server', 'BOOLEAN', 'same as --log-level debug')),
  metrics: flag()
    .default(true)
    .meta(about('server', 'BOOLEAN', 'whether GET /metrics tells Prometheus of this server; see deploy/')),
  shutdownGrace: seconds(0)
    .default(20)
    .meta(
      about('server', 'SECONDS', 'how long running jobs may finish after SIGTERM or SIGINT before they are cancelled'),
    ),
  shutdownDelay: seconds(0)
    .default(0)
    .meta(
      about(
        'server',
        'SECONDS',
        'after SIGTERM, /health/ready says 503 and all else goes on for this long, so that a proxy sends nothing more',
      ),
    ),

  apiTokenFile: z
    .string()
    .default('')
    .meta(
      about(
        'access',
        'FILE',
        'tokens that may call the API, a line name:token each, read again when it changes; empty: no token is wanted',
      ),
    ),
  adminTokenFile: z
    .string()
    .default('')
    .meta(
      about('access', 'FILE', 'tokens that may call everything, /admin and /logs too; empty: as --admin-hosts says'),
    ),
  maxFailedTokens: count(1, 1_000_000)
    .default(30)
    .meta(
      about('access', 'COUNT', 'wrong tokens a minute from one address; the next get 429, a right one is always taken'),
    ),

  auditLog: z
    .string()
    .default('workspace')
    .meta(
      about(
        'access',
        'FILE',
        'who changed which model, as JSON lines; workspace: audit/HOST.jsonl in the workspace; empty: nowhere',
      ),
    ),
  auditMaxBytes: bytes(64 * KiB)
    .default(100 * MiB)
    .meta(about('access', 'BYTES', 'what the audit log may take, in ten files; the oldest goes')),
  ssl: z
    .preprocess(toBoolean, z.union([z.boolean(), z.literal('auto')], { error: 'must be true, false or auto' }))
    .default('auto')
    .meta({
      ...about(
        'access',
        'WORD',
        'true: https, which needs the two below; false: http in any case; auto: https with them',
      ),
      standsAlone: true,
    }),
  sslCert: z
    .string()
    .default('')
    .meta({
      ...about(
        'access',
        'FILE',
        "certificate (PEM) of this server, with those between it and the root; AIAA's --ssl_cert_file",
      ),
      aliases: ['--ssl-cert-file'],
    }),
  sslKey: z
    .string()
    .default('')
    .meta({
      ...about('access', 'FILE', "its private key (PEM); both are read again when they change; AIAA's --ssl_pkey_file"),
      aliases: ['--ssl-pkey-file'],
    }),
  sslKeyPassphraseFile: z
    .string()
    .default('')
    .meta(about('access', 'FILE', "file with the key's passphrase, where it has one")),

  device: z
    .string()
    .regex(/^(auto|cpu|cuda(:\d+)?)$/, { error: 'must be auto, cpu, cuda or cuda:N' })
    .default('auto')
    .meta(about('models', 'DEVICE', 'auto (CUDA where it works, else CPU), cpu, cuda or cuda:N')),
  preload: list()
    .default([])
    .meta(about('models', 'NAMES', 'models to load at start, by comma; * for all')),
  modelCatalog: z
    .string()
    .default('')
    .meta(
      about(
        'models',
        'PATH',
        'folder of models, or a JSON file that lists them, for PUT {"path","version"}; see docs/models.md',
      ),
    ),
  keepAlive: seconds(-1)
    .default(900)
    .meta(about('models', 'SECONDS', 'an idle model gives its memory back after this time; 0: at once, -1: never')),
  maxLoadedModels: count(1, 1000)
    .default(4)
    .meta(about('models', 'COUNT', 'models in memory at once; the least recently used idle one makes room')),
  instances: countOrAuto(1, 16)
    .default('auto')
    .meta(
      about(
        'models',
        'COUNT',
        'runners of one model while jobs wait for it, each with its own memory; auto: two (more from 9 cores on) while that is worth it and memory is free',
      ),
    ),
  spareKeepAlive: seconds(1)
    .default(60)
    .meta(
      about(
        'models',
        'SECONDS',
        'with --instances auto, a further runner of a model is ended after this time without use',
      ),
    ),
  memoryBudget: bytes(0)
    .default(0)
    .meta(about('models', 'BYTES', 'memory all runners together may hold before idle ones are unloaded; 0: no budget')),
  maxQueuedJobs: count(1, 10_000)
    .default(16)
    .meta(about('models', 'COUNT', 'jobs that may wait for one model; the next gets 503 with Retry-After')),
  toolRunners: count(1, 64)
    .default(2)
    .meta(about('models', 'COUNT', 'processes for work without a model: session images, DICOM series, polygons')),
  loadDeadline: seconds(1)
    .default(120)
    .meta(about('models', 'SECONDS', 'a model that takes longer to load is given up with 503')),
  proveDeadline: seconds(1)
    .default(120)
    .meta(about('models', 'SECONDS', 'a new model that takes longer to load and answer once is refused with 422')),
  proveMemory: bytes(1)
    .default(8 * GiB)
    .meta(about('models', 'BYTES', 'memory a new model may take while it is tried; one that needs more is refused')),
  maxProofs: count(1, 64)
    .default(2)
    .meta(about('models', 'COUNT', 'new models tried at once; each may take --prove-memory')),
  optimise: z
    .enum(['auto', 'off'], { error: 'must be auto or off' })
    .default('auto')
    .meta(
      about(
        'models',
        'WORD',
        'auto: a network is tried rewritten into an equal one when it is proved, and runs so where that is faster; off',
      ),
    ),
  optimiseTrial: seconds(0)
    .default(10)
    .meta(
      about(
        'models',
        'SECONDS',
        'a network whose one run takes longer is not tried rewritten: it would hold up its user',
      ),
    ),
  cancelGrace: seconds(0.1)
    .default(5)
    .meta(about('models', 'SECONDS', 'time a cancelled job has to stop by itself before its process is ended')),
  requestDeadline: seconds(1)
    .default(1800)
    .meta(about('models', 'SECONDS', 'a job that takes longer, waiting included, is cancelled with 504')),
  networkMemory: bytes(0)
    .default(256 * MiB)
    .meta(
      about(
        'models',
        'BYTES',
        'networks of one model of several that stay open, by the size of their files; others are opened one at a time',
      ),
    ),
  runnerCacheBytes: bytes(0)
    .default(2 * GiB)
    .meta(
      about(
        'models',
        'BYTES',
        'prepared session images that one runner may keep for the next click; a CT of 512x512x128 takes 150 MiB',
      ),
    ),

  maxUploadBytes: bytes(1)
    .default(1 * GiB)
    .meta(
      about(
        'limits',
        'BYTES',
        'files of one request together; a CT of 512x512x1500 is 750 MiB raw, half of that gzipped',
      ),
    ),
  maxUploadFiles: count(1, 100_000)
    .default(4000)
    .meta(about('limits', 'COUNT', 'files of one request; a DICOM series is one file a slice')),
  maxParamsBytes: bytes(1024)
    .default(32 * MiB)
    .meta(about('limits', 'BYTES', 'the params field; polygons of a 3D mask take megabytes')),
  maxModelBytes: bytes(1)
    .default(4 * GiB)
    .meta(about('limits', 'BYTES', 'one model upload, and what an archive may unpack to')),
  maxVolumeBytes: bytes(1)
    .default(8 * GiB)
    .meta(
      about(
        'limits',
        'BYTES',
        'memory that the images of one request and the work on them may take at once; a CT of 512x512x1500 takes 4 GiB to segment',
      ),
    ),
  maxVoxels: count(1, Number.MAX_SAFE_INTEGER)
    .default(1024 * MiB)
    .meta(about('limits', 'COUNT', 'voxels of one image, channels included')),
  maxGridVoxels: count(1, Number.MAX_SAFE_INTEGER)
    .default(512 * MiB)
    .meta(
      about(
        'limits',
        'COUNT',
        'voxels a transform may make of one image, or twice its own; a whole body at 0.7 mm, 2 GiB as float32',
      ),
    ),
  maxTrialValues: count(1, Number.MAX_SAFE_INTEGER)
    .default(64 * MiB)
    .meta(
      about(
        'limits',
        'COUNT',
        'values of one array that the trial of a new model may make, 256 MiB as float32; it shares the machine with those that serve, and steps that make more are not tried',
      ),
    ),
  uploadDeadline: seconds(1)
    .default(900)
    .meta(about('limits', 'SECONDS', 'time a client has to send one whole request')),
  replySilence: seconds(0.1)
    .default(60)
    .meta(about('limits', 'SECONDS', 'a client that takes no byte of its reply for this long loses it')),
  resultExpiry: seconds(1)
    .default(600)
    .meta(about('limits', 'SECONDS', 'how long the result of an asynchronous request waits to be fetched')),
  maxKeptResults: count(1, 100_000)
    .default(100)
    .meta(
      about(
        'limits',
        'COUNT',
        'results of asynchronous requests that may wait to be fetched, those still computed included; then 503',
      ),
    ),

  sessionExpiry: seconds(1)
    .default(3600)
    .meta(about('sessions', 'SECONDS', 'life of a session after its last use when the client names no expiry')),
  sessionMaxExpiry: seconds(1)
    .default(86_400)
    .meta(about('sessions', 'SECONDS', 'the longest expiry a client may ask for')),
  sessionMaxBytes: bytes(1)
    .default(32 * GiB)
    .meta(about('sessions', 'BYTES', 'disk all sessions together may take; the oldest idle one makes room')),
  maxSessions: count(1, 1_000_000)
    .default(1000)
    .meta(about('sessions', 'COUNT', 'live sessions; the oldest idle one makes room')),

  datastore: z
    .string()
    .default('')
    .meta(
      about(
        'datastore',
        'DIR',
        "folder of images and labels that stay, for MONAI Label's clients; workspace: in the workspace; empty: none",
      ),
    ),
  datastoreHosts: hostList()
    .default(['*'])
    .meta(
      about(
        'datastore',
        'HOSTS',
        'who may use the datastore, as for --admin-hosts; pages only of the origins that --cors-origins names',
      ),
    ),
  datastoreMaxBytes: bytes(1)
    .default(256 * GiB)
    .meta(
      about(
        'datastore',
        'BYTES',
        'disk the datastore may take, decoded images and old versions too; nothing makes room',
      ),
    ),
  datastoreMaxImages: count(1, 1_000_000)
    .default(10_000)
    .meta(about('datastore', 'COUNT', 'images of the datastore; its index is kept in memory')),
  datastoreExpiry: z
    .preprocess(toSeconds, z.number({ error: 'must be a number of seconds, or such as 90d' }).min(0))
    .default(0)
    .meta(about('datastore', 'SECONDS', 'life of an image and its labels after the last use; 0: for ever')),

  allowFetch: list()
    .default([])
    .meta(
      about(
        'fetching',
        'HOSTS',
        'hosts that sessions may fetch from and kserve models run on, as host[:port] or address[/bits][:port]; empty: none',
      ),
    ),
  fetchDeadline: seconds(1)
    .default(600)
    .meta(
      about(
        'fetching',
        'SECONDS',
        'time one retrieval from a DICOM server or a URL, or one call of an inference server, may take',
      ),
    ),
  fetchSilence: seconds(1)
    .default(30)
    .meta(about('fetching', 'SECONDS', 'a peer that says nothing for this long is given up')),
  dicomPort: count(0, 65_535)
    .default(0)
    .meta(about('fetching', 'PORT', 'port of our own storage SCP for C-MOVE; 0: C-MOVE is off')),
  dicomAeTitle: z
    .string()
    .regex(/^[\x20-\x5b\x5d-\x7e]{1,16}$/, { error: 'must be 1 to 16 printable characters without a backslash' })
    .default('AIDANT')
    .meta(about('fetching', 'TITLE', 'our AE title')),
  dicomTlsKey: z
    .string()
    .default('')
    .meta(about('fetching', 'FILE', 'private key (PEM) for DICOM servers that want TLS')),
  dicomTlsCert: z
    .string()
    .default('')
    .meta(about('fetching', 'FILE', 'our certificate (PEM) for DICOM over TLS')),
  dicomTlsCa: z
    .string()
    .default('')
    .meta(about('fetching', 'FILE', 'certificates (PEM) we trust in DICOM over TLS')),

  dicomwebUrl: serviceUrl()
    .default('')
    .meta(
      about(
        'dicomweb',
        'URL',
        "DICOMweb service, the part before /studies: MONAI Label's clients name its series as images; empty: none",
      ),
    ),
  dicomwebCredentials: z
    .string()
    .default('')
    .meta(
      about(
        'dicomweb',
        'FILE',
        'file with one line, basic USER:PASSWORD or bearer TOKEN, for that service; env:NAME: a variable that holds it',
      ),
    ),
  dicomwebFilter: z
    .string()
    .refine(isSearch, { error: 'must be QIDO-RS keys, as in Modality=CT&StudyDate=20260101-' })
    .default('')
    .meta(
      about(
        'dicomweb',
        'KEYS',
        'which series are listed and given as next sample, as in Modality=CT&StudyDate=20260101-; empty: all images',
      ),
    ),
  dicomwebMaxSeries: count(1, 100_000)
    .default(1000)
    .meta(
      about(
        'dicomweb',
        'COUNT',
        'series of images, and segmentations, that one listing asks for; the rest is left out',
      ),
    ),
  dicomwebMaxAnswer: bytes(1024)
    .default(32 * MiB)
    .meta(
      about('dicomweb', 'BYTES', 'one answer of the service in JSON, which is read in memory; a series takes 2 KiB'),
    ),
  dicomwebRefresh: seconds(0)
    .default(60)
    .meta(about('dicomweb', 'SECONDS', 'how old a listing may be before the service is asked again')),
  storeLabels: flag()
    .default(false)
    .meta(
      about('dicomweb', 'BOOLEAN', 'final labels of its series are sent back to that service as DICOM SEG (STOW-RS)'),
    ),
})
export type Config = z.infer<typeof Config>
export type SettingName = keyof Config

export interface Setting extends SettingMeta {
  readonly name: SettingName
  /** `--max-upload-bytes`; the spelling with underscores is accepted as well. */
  readonly flag: string
  /** `AIDANT_MAX_UPLOAD_BYTES`. */
  readonly env: string
  readonly boolean: boolean
  readonly list: boolean
  readonly fallback: unknown
}

/** All settings, in the order of the schema, as documentation and command lines need them. */
export const SETTINGS: readonly Setting[] = (Object.keys(Config.shape) as SettingName[]).map((name) => {
  const meta = Config.shape[name].meta() as unknown as SettingMeta
  const fallback = Config.shape[name].parse(undefined)
  const kebab = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  return {
    ...meta,
    name,
    flag: `--${kebab}`,
    env: `AIDANT_${kebab.replaceAll('-', '_').toUpperCase()}`,
    boolean: typeof fallback === 'boolean' || meta.standsAlone === true,
    list: Array.isArray(fallback),
    fallback,
  }
})

/** A default as `--help` and README.md print it: bytes in MiB or GiB where they are whole. */
export function showDefault(setting: Setting): string {
  const { fallback } = setting
  if (Array.isArray(fallback)) return fallback.length === 0 ? '(empty)' : fallback.join(',')
  if (setting.value === 'BYTES' && typeof fallback === 'number' && fallback > 0)
    return fallback % GiB === 0 ? `${fallback / GiB}GiB` : `${fallback / MiB}MiB`
  return fallback === '' ? '(empty)' : String(fallback)
}
