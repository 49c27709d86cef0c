/** `aidant datastore list | export | import`: images and labels of a datastore, for people who train on them. */
import { type Command, Option } from 'commander'
import { exportBids, exportMonai, readListing } from '../datastore-export.js'
import { findStudies, sendStudies } from '../datastore-import.js'
import { EXIT, UsageError } from '../exit-codes.js'
import { startLocalServer } from '../local-server.js'
import type { ServerClient } from '../server-client.js'
import { addServerOptions, connect, type ServerOptions } from '../server-options.js'
import { table } from '../table.js'
import { told } from '../told.js'

interface Common extends ServerOptions {
  readonly datastore?: string
  readonly json?: boolean
}

interface ExportOptions extends Common {
  readonly layout: 'monai' | 'bids'
}

/** Adds the commands to the program. `print` takes whole lines. */
export function addDatastoreCommands(program: Command, print: (line: string) => void = console.log): void {
  const group = program.command('datastore').description('list, export and import the images and labels of a datastore')
  const command = (words: string, about: string) =>
    addServerOptions(
      group.command(words).description(about),
      new Option('--server <url>', 'the server that has it').env('AIDANT_SERVER'),
    ).option('--datastore <folder>', 'without --server: the folder of a datastore that no server has just now')

  command('list', 'every image and its labels')
    .option('--json', "the server's own answer, as JSON")
    .action(
      told((options: Common) =>
        withClient(options, async (client) => {
          const listing = await readListing(client)
          if (options.json) print(JSON.stringify(Object.fromEntries(listing), undefined, 2))
          else
            for (const line of table(
              ['IMAGE', 'FORMAT', 'SIZE', 'VERSIONS', 'LABELS'],
              [...listing].map(([id, { image, labels }]) => [
                id,
                String(image.info.format ?? ''),
                Array.isArray(image.info.size) ? image.info.size.join('x') : '',
                String(image.info.versions ?? ''),
                Object.keys(labels).join(', '),
              ]),
            ))
              print(line)
        }),
      ),
    )

  command('export <folder>', 'the newest images and labels as files, in a new or empty folder')
    .addOption(
      new Option('--layout <layout>', "monai: MONAI Label's own datastore; bids: BIDS derivatives, all NIfTI")
        .choices(['monai', 'bids'])
        .default('monai'),
    )
    .action(
      told((folder: string, options: ExportOptions) =>
        withClient(options, async (client) => {
          const { images, labels } = await (options.layout === 'bids' ? exportBids : exportMonai)(client, folder)
          print(`${images} images and ${labels} labels in ${folder}`)
        }),
      ),
    )

  command(
    'import <folder>',
    "images and labels of a folder in MONAI Label's layout: images, and labels/TAG beside them",
  ).action(
    told((folder: string, options: Common) =>
      withClient(options, async (client) => {
        const studies = await findStudies(folder)
        const { images, labels, failures } = await sendStudies(client, studies)
        print(`${images} images and ${labels} labels stored`)
        for (const failure of failures) process.stderr.write(`aidant: ${failure}\n`)
        if (failures.length > 0) process.exitCode = EXIT.failed
      }),
    ),
  )
}

async function withClient(options: Common, work: (client: ServerClient) => Promise<void>): Promise<void> {
  if (options.server) return work(await connect({ ...options, server: options.server }))
  if (!options.datastore)
    throw new UsageError('which datastore?', 'name a server with --server URL, or a folder with --datastore FOLDER')
  const local = await startLocalServer({ datastore: options.datastore })
  try {
    await work(local.client)
  } finally {
    await local.close()
  }
}
