// Drives the genuine clients: reads one JSON command a line, writes one JSON event a line.
//
// Commands: {do: "open", client, flavour, url}, {do: "authenticate", client, data},
// {do: "token", client, claims, secret}, {do: "send", client, data, type}, {do: "close", client}. Every event names its client, whose
// frames in both directions are among them, as they stand on the wire; `fault` names none.
'use strict'
const readline = require('readline')
const WebSocket = require('ws')

const report = (client, event, fields) => console.log(JSON.stringify({ client, event, ...fields }))

// The packages open their sockets themselves, so the client's name travels in the URL's query.
class ReportedWebSocket extends WebSocket {
  constructor (url, ...rest) {
    super(url, ...rest)
    this.client = new URL(url).searchParams.get('client')
    this.on('message', data => report(this.client, typeof data === 'string' ? 'received' : 'binary', { text: String(data) }))
  }

  send (data, ...rest) {
    report(this.client, 'sent', { text: String(data) })
    super.send(data, ...rest)
  }
}
require.cache[require.resolve('ws')].exports = globalThis.WebSocket = ReportedWebSocket
const { Client, Message } = require('@cryb/mesa')
const BrowserClient = require('mesa-js-client')
const { sign } = require('jsonwebtoken')

const listeners = name => ({
  connected: options => report(name, 'connected', options),
  message: ({ opcode, data, type, sequence }) => report(name, 'message', { opcode, data, type, sequence }),
  disconnected: (code, reason, options) => report(name, 'disconnected', { code, reason, ...options }),
  error: () => {} // the server is away; the client tries again
})

const flavours = {
  '@cryb/mesa' (name, url) {
    const client = new Client(url)
    for (const [event, listener] of Object.entries(listeners(name))) client.on(event, listener)
    return {
      client,
      send: (data, type) => client.send(new Message(0, data, type)),
      stopReconnecting: () => clearInterval(client.reconnectionInterval)
    }
  },
  'mesa-js-client' (name, url) {
    const client = new BrowserClient(url), { connected, message, disconnected, error } = listeners(name)
    Object.assign(client, { onConnected: connected, onMessage: message, onDisconnected: disconnected, onError: error })
    return {
      client,
      send: (data, type) => client.send(0, data, type),
      stopReconnecting: () => clearInterval(client.reconnectionIntervalId)
    }
  }
}

const clients = {}
const commands = {
  open ({ client, flavour, url }) { clients[client] = flavours[flavour](client, `${url}?client=${client}`) },
  authenticate ({ client, data }) { clients[client].client.authenticate(data).then(user => report(client, 'user', { user })) },
  token ({ client, claims, secret }) { commands.authenticate({ client, data: { token: sign(claims, secret) } }) },
  send ({ client, data, type }) { clients[client].send(data, type) },
  close ({ client: name }) {
    const { client, stopReconnecting } = clients[name]
    client.reconnectionIntervalTime = 0 // else the packages come back after their own disconnect()
    if (client.ws) client.disconnect()
    stopReconnecting()
  }
}

for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, error => report(null, 'fault', { text: String((error && error.stack) || error) }))
}
readline.createInterface({ input: process.stdin })
  .on('line', line => { const command = JSON.parse(line); commands[command.do](command) })
  .on('close', () => process.exit())
