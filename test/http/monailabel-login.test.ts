/** MONAI Label's own Python client, as it comes from PyPI, logging in to a server that wants tokens. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { pythonJson, pythonWith } from '../helpers/python.js'
import { testApp } from '../helpers/test-app.js'
import { tempFolder } from '../helpers/volumes.js'

const TOKEN = 'ward-0123456789abcdef'
const python = pythonWith(['cgi', 'monailabel.client.client'])

const SCRIPT = `
import json, sys
from monailabel.client.client import MONAILabelClient, MONAILabelClientException
client = MONAILabelClient(sys.argv[1])

def status(call, *args):
    try:
        call(*args)
        return 200
    except MONAILabelClientException as error:
        return error.status_code

said = {"enabled": client.auth_enabled(), "before": status(client.info), "wrong": status(client.auth_token, "ann", "guess")}
client.update_auth(client.auth_token("ann", sys.argv[2]))
said.update(valid=client.auth_valid_token(), after=status(client.info))
print(json.dumps(said))
`

test.skipIf(!python)(
  "MONAI Label's client logs in with a token as its password (skipped without its client)",
  async () => {
    await using folder = await tempFolder()
    writeFileSync(join(folder.path, 'tokens'), `ward:${TOKEN}`, { mode: 0o600 })
    await using app = await testApp({ flags: ['--api-token-file', join(folder.path, 'tokens')] })
    const url = `http://127.0.0.1:${await app.listen()}`
    expect(await pythonJson(python!, SCRIPT, [url, TOKEN])).toEqual({
      enabled: true,
      before: 401,
      wrong: 401,
      valid: true,
      after: 200,
    })
  },
)
