/** deploy/ and .github/: what stands there is valid, fits together, and names only what there is. */
import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { loadConfig } from '../../src/config/load.js'
import { SETTINGS } from '../../src/config/schema.js'
import { HAPROXY_CONFIG, haproxy } from '../helpers/haproxy.js'
import { hasProgram } from '../helpers/peer-process.js'
import { pythonWith } from '../helpers/python.js'

const run = promisify(execFile)
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const DEPLOY = join(ROOT, 'deploy')
const BASE = join(DEPLOY, 'kubernetes/base')
const TRITON = join(DEPLOY, 'kubernetes/overlays/triton')
const COMPOSE = ['compose.yaml', 'scale.yaml'].map((name) => join(DEPLOY, 'compose', name))
const UNIT = join(DEPLOY, 'systemd/aidant.service')
/** What `systemd-analyze security` may say at most, 0 to 10; 1.4 was measured with systemd 252. */
const MOST_EXPOSURE = 2
/** Of npm, docker and Triton. */
const FLAGS_OF_OTHERS = new Set(['--prefix', '--build', '--model-repository', '--strict-readiness'])
/** Closing sockets and runners takes up to this long after --shutdown-grace (server.ts). */
const CLOSE_SECONDS = 10

// biome-ignore lint/suspicious/noExplicitAny: manifests of other programs
type Json = Record<string, any>
const yaml = (path: string): Json => parse(readFileSync(path, 'utf8'), { merge: true }) as Json
const documents = (path: string): Json[] =>
  parseAllDocuments(readFileSync(path, 'utf8')).map((document) => document.toJSON() as Json)
const manifests = (folder: string): Json[] =>
  (yaml(join(folder, 'kustomization.yaml')).resources as string[])
    .filter((name) => name.endsWith('.yaml'))
    .flatMap((name) => documents(join(folder, name)))
const pick = (all: readonly Json[], kind: string, name = 'aidant'): Json => {
  const found = all.find((each) => each.kind === kind && each.metadata.name.startsWith(name))
  if (!found) throw new Error(`no ${kind} ${name}`)
  return found
}

/** The lines `NAME=value` of a systemd file, of a list, or of an Environment= line. */
const pairs = (lines: readonly string[]) =>
  Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))

/** Every set of settings that deploy/ gives to a server, by where it stands. */
function givenSettings(): Record<string, Record<string, string>> {
  const unit = readFileSync(UNIT, 'utf8')
  const compose = COMPOSE.flatMap((path) => Object.entries(yaml(path).services as Record<string, Json>))
  const literals = (folder: string): string[] => yaml(join(folder, 'kustomization.yaml')).configMapGenerator[0].literals
  return {
    unit: pairs(/^Environment=(.*)$/m.exec(unit)![1]!.split(' ')),
    'aidant.env': pairs(
      readFileSync(join(DEPLOY, 'systemd/aidant.env'), 'utf8')
        .split('\n')
        .filter((line) => /^[A-Z]/.test(line)),
    ),
    ...Object.fromEntries(
      compose
        .filter(([name]) => name.startsWith('aidant'))
        .map(([name, service], i) => [`compose ${name} ${i}`, service.environment]),
    ),
    kubernetes: pairs(literals(BASE)),
    triton: { ...pairs(literals(BASE)), ...pairs(literals(TRITON)) },
  }
}

describe('settings', () => {
  it.each(Object.entries(givenSettings()))('%s: every variable is a setting with a value it takes', (_, env) => {
    const names = Object.keys(env).filter((name) => name !== 'NODE_ENV')
    expect(names.filter((name) => !SETTINGS.some((setting) => setting.env === name))).toEqual([])
    expect(names.length).toBeGreaterThan(0)
    loadConfig([], env)
  })

  it('no other file of deploy/ names a setting that is none', () => {
    const files = readdirSync(DEPLOY, { recursive: true, encoding: 'utf8' })
      .map((name) => join(DEPLOY, name))
      .filter((path) => statSync(path).isFile())
    expect(files.length).toBeGreaterThan(10)
    for (const path of files) {
      const text = readFileSync(path, 'utf8')
      for (const [name] of text.matchAll(/\bAIDANT_[A-Z_]+\b/g))
        expect(
          SETTINGS.map(({ env }) => env),
          `${path}: ${name}`,
        ).toContain(name)
      for (const [flag] of text.matchAll(/(?<![\w-])--[a-z][a-z-]+\b/g))
        if (!FLAGS_OF_OTHERS.has(flag))
          expect(
            SETTINGS.map((setting) => setting.flag),
            `${path}: ${flag}`,
          ).toContain(flag)
    }
  })
})

describe('an orderly end fits into the time the supervisor gives', () => {
  const needed = (env: Record<string, string>) => {
    const { shutdownDelay, shutdownGrace } = loadConfig([], env)
    return shutdownDelay + shutdownGrace + CLOSE_SECONDS
  }
  const given = givenSettings()

  it('systemd', () => {
    expect(Number(/^TimeoutStopSec=(\d+)$/m.exec(readFileSync(UNIT, 'utf8'))![1])).toBeGreaterThan(needed(given.unit!))
  })

  it('compose', () => {
    for (const path of COMPOSE)
      for (const [name, service] of Object.entries(yaml(path).services as Record<string, Json>))
        if (name.startsWith('aidant') && service.stop_grace_period)
          expect(parseInt(service.stop_grace_period, 10), name).toBeGreaterThan(needed(service.environment))
  })

  it('Kubernetes', () => {
    const { spec } = pick(manifests(BASE), 'Deployment').spec.template
    expect(spec.terminationGracePeriodSeconds).toBeGreaterThan(needed(given.kubernetes!))
  })
})

describe('Kubernetes', () => {
  const base = manifests(BASE)
  const overlay = manifests(TRITON)

  it('one set of labels ties deployment, service, disruption budget and network policy together', () => {
    for (const [all, name] of [
      [base, 'aidant'],
      [overlay, 'triton'],
    ] as const) {
      const { spec } = pick(all, 'Deployment', name)
      const labels = spec.template.metadata.labels
      expect(spec.selector.matchLabels).toEqual(labels)
      expect(pick(all, 'Service', name).spec.selector).toEqual(labels)
      expect(pick(all, 'NetworkPolicy', name).spec.podSelector.matchLabels).toEqual(labels)
    }
    const { spec } = pick(base, 'Deployment')
    expect(pick(base, 'PodDisruptionBudget').spec.selector.matchLabels).toEqual(spec.selector.matchLabels)
    expect(spec.replicas).toBeGreaterThan(pick(base, 'PodDisruptionBudget').spec.minAvailable)
  })

  it('pods share one workspace, run as nobody in particular, and write nowhere else', () => {
    const { spec } = pick(base, 'Deployment').spec.template
    const [container] = spec.containers
    const claim = pick(base, 'PersistentVolumeClaim', 'aidant-workspace')
    expect(claim.spec.accessModes).toEqual(['ReadWriteMany'])
    const volume = spec.volumes.find((each: Json) => each.persistentVolumeClaim?.claimName === claim.metadata.name)
    const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8')
    const place = /AIDANT_WORKSPACE=(\S+)/.exec(dockerfile)![1]
    expect(container.volumeMounts).toContainEqual({ name: volume.name, mountPath: place })
    expect(container.ports[0].containerPort).toBe(Number(/^EXPOSE (\d+)$/m.exec(dockerfile)![1]))
    expect(spec.securityContext).toMatchObject({
      runAsNonRoot: true,
      runAsUser: Number(/^USER (\d+)$/m.exec(dockerfile)![1]),
    })
    expect(container.securityContext).toMatchObject({ readOnlyRootFilesystem: true, allowPrivilegeEscalation: false })
  })

  it('probes ask routes that there are', () => {
    const { paths } = JSON.parse(readFileSync(join(ROOT, 'openapi/openapi.json'), 'utf8')) as Json
    const [container] = pick(base, 'Deployment').spec.template.spec.containers
    for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'])
      expect(Object.keys(paths)).toContain(container[probe].httpGet.path)
  })

  const python = pythonWith(['kubernetes_validate'])
  const kubernetesVersions = ['1.30', '1.37']
  const validate = (version: string, path: string) =>
    run(python!, ['-m', 'kubernetes_validate', '--strict', '-k', version, path])

  it.skipIf(!python).each(kubernetesVersions)(
    '%s takes every manifest (skipped without kubernetes-validate)',
    async (version) => {
      const paths = [BASE, TRITON].flatMap((folder) =>
        readdirSync(folder)
          .filter((name) => !['kustomization.yaml', 'egress.yaml'].includes(name))
          .map((name) => join(folder, name)),
      )
      for (const path of paths) await validate(version, path)
    },
  )

  it.skipIf(!python)('a slip in a manifest would be seen (skipped without kubernetes-validate)', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'aidant-deploy-'))
    try {
      const path = join(folder, 'deployment.yaml')
      const text = await readFile(join(BASE, 'deployment.yaml'), 'utf8')
      await writeFile(path, text.replace('readinessProbe:', 'redinessProbe:'))
      await expect(validate('1.37', path)).rejects.toThrow()
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  /** Debian's own kubectl is from before what the kustomizations use. */
  const kustomize = hasProgram('kustomize')
    ? ['kustomize', 'build']
    : / v5/.test(spawnSync('kubectl', ['version', '--client'], { encoding: 'utf8' }).stdout ?? '')
      ? ['kubectl', 'kustomize']
      : undefined

  it.skipIf(!kustomize || !python).each([BASE, TRITON])(
    'kustomize builds %s, and Kubernetes takes it (skipped without kustomize 5)',
    async (folder) => {
      const [program, word] = kustomize!
      const { stdout } = await run(program!, [word!, folder])
      const path = join(await mkdtemp(join(tmpdir(), 'aidant-deploy-')), 'all.yaml')
      await writeFile(path, stdout)
      for (const version of kubernetesVersions) await validate(version, path)
      const built = documents(path)
      const config = pick(built, 'ConfigMap')
      const { spec } = pick(built, 'Deployment').spec.template
      expect(spec.containers[0].envFrom).toEqual([{ configMapRef: { name: config.metadata.name } }])
      if (folder !== TRITON) return
      const [host, port] = config.data.AIDANT_ALLOW_FETCH.split(':')
      expect(pick(built, 'Service', host).spec.ports[0].port).toBe(Number(port))
      const egress = pick(built, 'NetworkPolicy', 'aidant').spec.egress
      expect(egress.at(-1)).toMatchObject({
        to: [{ podSelector: { matchLabels: pick(built, 'Deployment', host).spec.selector.matchLabels } }],
      })
    },
  )
})

describe.skipIf(!hasProgram('systemd-analyze'))('systemd (skipped without systemd-analyze)', () => {
  let folder: string
  let unit: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'aidant-deploy-'))
    unit = join(folder, 'aidant.service')
    // It looks whether the program is there.
    const program = join(folder, 'aidant')
    await writeFile(program, '#!/bin/sh\n')
    chmodSync(program, 0o755)
    await writeFile(unit, (await readFile(UNIT, 'utf8')).replace('/opt/aidant/bin/aidant', program))
  })
  afterAll(() => rm(folder, { recursive: true }))

  it('verifies the unit without a word', async () => {
    const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', '--recursive-errors=no', unit])
    expect(stdout + stderr).toBe('')
  })

  it('finds it hardened', async () => {
    const most = `--threshold=${MOST_EXPOSURE * 10}`
    const { stdout } = await run('systemd-analyze', ['security', '--offline=true', most, unit])
    expect(stdout).toMatch(/Overall exposure level/)
    await expect(run('systemd-analyze', ['security', '--offline=true', '--threshold=1', unit])).rejects.toThrow()
  })
})

it.skipIf(!haproxy)('HAProxy takes its file (skipped without HAProxy)', async () => {
  await run(haproxy!, ['-c', '-f', HAPROXY_CONFIG])
})

describe('schemas of other programs (skipped without check-jsonschema)', () => {
  const python = pythonWith(['check_jsonschema'])
  const workflows = readdirSync(join(ROOT, '.github/workflows')).map((name) => join(ROOT, '.github/workflows', name))
  it.skipIf(!python).each([
    ['vendor.compose-spec', COMPOSE],
    ['vendor.github-workflows', workflows],
    ['vendor.dependabot', [join(ROOT, '.github/dependabot.yml')]],
  ])('%s', async (schema, paths) => {
    await run(python!, ['-m', 'check_jsonschema', '--builtin-schema', schema, ...paths])
  })

  it('workflows run programs and scripts that there are', () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Json
    const commands = workflows.flatMap((path) =>
      Object.values(yaml(path).jobs as Record<string, Json>).flatMap(({ steps = [] }) =>
        (steps as Json[]).flatMap((step) => (typeof step.run === 'string' ? [step.run] : [])),
      ),
    )
    expect(commands).toContain('.ci/run')
    for (const command of commands) {
      const script = /^npm run (\S+)/.exec(command)?.[1]
      if (script !== undefined) expect(Object.keys(scripts)).toContain(script)
      else if (command.startsWith('.')) expect(existsSync(join(ROOT, command))).toBe(true)
    }
  })
})

describe('the image', () => {
  const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8')
  const [program, script] = JSON.parse(/HEALTHCHECK[^\n]*\n\s*CMD (\[.*\])/.exec(dockerfile)![1]!) as [string, string]
  const health = (env: Record<string, string>) =>
    run(process.execPath, [script.replace('/app', ROOT)], { env: { PATH: process.env.PATH ?? '', ...env } })

  it('runs as a user that is not root, from files that there are', () => {
    expect(/^USER (\S+)$/m.exec(dockerfile)![1]).not.toMatch(/^(0|root)/)
    for (const [, from] of dockerfile.matchAll(/^COPY (?!--)(.+) \S+$/gm))
      for (const path of from!.split(' ')) expect(existsSync(join(ROOT, path)), path).toBe(true)
    expect(program).toBe('node')
  })

  it.each([
    { name: 'answers', status: 200, healthy: true },
    { name: 'answers with an error', status: 500, healthy: false },
  ])('is healthy: $healthy, when the server $name', async ({ status, healthy }) => {
    const asked: (string | undefined)[] = []
    const server = createServer((request, reply) => {
      asked.push(request.url)
      reply.writeHead(status).end()
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const told = health({ AIDANT_PORT: String(port) })
    await (healthy ? told : expect(told).rejects.toMatchObject({ code: 1 }))
    expect(asked).toEqual(['/health/live'])
    // By https it has to be asked where there is a certificate, and this one does not speak it.
    await expect(health({ AIDANT_PORT: String(port), AIDANT_SSL_CERT: 'a.crt' })).rejects.toMatchObject({ code: 1 })
    expect(asked.length).toBe(1)
    server.close()
    await expect(health({ AIDANT_PORT: String(port) })).rejects.toMatchObject({ code: 1 })
  })
})

it('files that compose mounts or builds are there', () => {
  for (const path of COMPOSE)
    for (const service of Object.values(yaml(path).services as Record<string, Json>)) {
      if (service.build) expect(existsSync(join(dirname(path), service.build, 'Dockerfile'))).toBe(true)
      for (const volume of (service.volumes ?? []) as string[])
        if (volume.startsWith('.')) expect(existsSync(join(dirname(path), volume.split(':')[0]!)), volume).toBe(true)
    }
})
