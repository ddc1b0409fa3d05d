// A receiver on Node's http module. Checks each signature (Standard Webhooks 1.0.0), appends "id bytes" to its ledger
// and answers 204; 401 for a bad signature. Prints its port as JSON and ends when its standard input does.
'use strict'

const { createHmac, timingSafeEqual } = require('node:crypto')
const fs = require('node:fs')
const http = require('node:http')

const [path, secret] = process.argv.slice(2)
const ledger = fs.openSync(path, 'a')
const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')

function signed (headers, body) {
  const mac = createHmac('sha256', key)
  mac.update(`${headers['webhook-id']}.${headers['webhook-timestamp']}.`)
  mac.update(body)
  const expected = Buffer.from(`v1,${mac.digest('base64')}`)
  return (headers['webhook-signature'] || '').split(' ').some((text) => {
    const found = Buffer.from(text)
    return found.length === expected.length && timingSafeEqual(found, expected)
  })
}

const server = http.createServer((request, answer) => {
  const parts = []
  request.on('data', (part) => parts.push(part))
  request.on('end', () => {
    const body = Buffer.concat(parts)
    if (request.method !== 'POST' || !signed(request.headers, body)) {
      answer.writeHead(401).end('bad signature')
      return
    }
    fs.writeSync(ledger, `${request.headers['hook-delivery']} ${body.length}\n`)
    answer.writeHead(204).end()
  })
})

server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })))
process.stdin.resume().on('end', () => process.exit(0))
