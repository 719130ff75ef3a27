// A @tars/rpc client that the tests drive: commands on standard input, answers on standard output, a JSON
// object a line. ../README.md has the contract that it shares with the other clients.

'use strict';

// What the library prints goes to standard error, and no configuration from outside is read.
const answer = (object) => process.stdout.write(`${JSON.stringify(object)}\n`);
for (const name of ['log', 'info', 'warn', 'error']) {
  console[name] = (...parts) => process.stderr.write(`${require('util').format(...parts)}\n`);
}
delete process.env.TARS_CONFIG;
delete process.env.TARS_MONITOR;

const readline = require('readline');
const { Communicator } = require('@tars/rpc');
const registry = require('@tars/registry');
const { HelloProxy } = require('./hello.js');

const FUNCTIONS = [
  'findObjectById',
  'findObjectById4Any',
  'findObjectById4All',
  'findObjectByIdInSameGroup',
  'findObjectByIdInSameStation',
  'findObjectByIdInSameSet',
];
const FIELDS = [
  'host', 'port', 'timeout', 'istcp', 'grid', 'groupworkid', 'grouprealid', 'setId', 'qos', 'bakFlag',
  'weight', 'weightType',
];

function options(argv) {
  const given = { 'refresh-ms': '60000' };
  for (let i = 0; i < argv.length; i += 2) {
    if (!['--locator', '--refresh-ms', '--set'].includes(argv[i]) || argv[i + 1] === undefined) {
      throw new Error(`unexpected argument: ${argv[i]}`);
    }
    given[argv[i].slice(2)] = argv[i + 1];
  }
  if (!given.locator || !(Number(given['refresh-ms']) >= 1)) {
    throw new Error('--locator is needed, --refresh-ms at least 1');
  }
  return { locator: given.locator, refresh: Number(given['refresh-ms']), set: given.set };
}

class Client {
  constructor({ locator, refresh, set }) {
    this.refresh = refresh;
    this.locator = locator;
    this.proxies = new Map();
    this.communicator = Communicator.New();
    this.communicator.setProperty('locator', locator);
    if (set) {
      this.communicator.setProperty('setdivision', set); // before enableset, which checks it
      this.communicator.setProperty('enableset', 'y');
    }
    this.query = registry.New();
    this.query.setLocator(locator);
  }

  // An object's proxy is made once and kept: the library refreshes its endpoints as it is used.
  proxy(obj) {
    if (typeof obj !== 'string' || obj === '') throw new Error('obj is missing');
    if (!this.proxies.has(obj)) {
      const proxy = this.communicator.stringToProxy(HelloProxy, obj);
      const manager = proxy._worker._manager;
      manager._iRefreshInterval = this.refresh;
      manager._iActiveEmptyInterval = Math.min(this.refresh, manager._iActiveEmptyInterval);
      this.proxies.set(obj, proxy);
    }
    return this.proxies.get(obj);
  }

  async call({ obj, text }) {
    return { ok: true, ...(await this.proxy(obj).testHello(text ?? '')) };
  }

  // The library asks the registry only when a call is made: so do here what each call begins with, which
  // asks when the interval is over, and wait for the answer.
  async endpoints({ obj }) {
    let manager;
    if (obj === this.locator.split('@')[0]) {
      if (!this.query._proxy) this.query.initialize();
      manager = this.query._proxy._worker._manager;
    } else {
      manager = this.proxy(obj)._worker._manager;
      manager._dns();
      for (const until = Date.now() + manager._iWaitTime; manager._bRequest && Date.now() < until;) {
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    }
    const endpoints = manager.getAllAdapters().map(({ endpoint }) => ({
      host: endpoint.sHost,
      port: endpoint.iPort,
      istcp: endpoint.sProtocol === 'udp' ? 0 : 1,
      timeout: endpoint.iTimeout,
      setId: endpoint.setId ?? '',
    }));
    endpoints.sort((a, b) => (a.host < b.host ? -1 : a.host > b.host ? 1 : a.port - b.port));
    return { ok: true, endpoints };
  }

  // A function of QueryF with the library's own client of the registry.
  async ask({ function: name, id, set, station }) {
    if (!FUNCTIONS.includes(name)) throw new Error(`no such function: ${name}`);
    const last = { findObjectByIdInSameStation: [station ?? ''], findObjectByIdInSameSet: [set ?? ''] }[name];
    const { response } = await this.query[name](id ?? '', ...(last ?? []));
    const plain = (list) => list.value.map((e) => Object.fromEntries(FIELDS.map((key) => [key, e[key]])));
    if (name === 'findObjectById') {
      return { ok: true, ret: 0, active: plain(response.return), inactive: [] };
    }
    const { activeEp, inactiveEp } = response.arguments;
    return { ok: true, ret: response.return, active: plain(activeEp), inactive: plain(inactiveEp) };
  }

  async run(command) {
    switch (command?.op) {
      case 'call': return this.call(command);
      case 'endpoints': return this.endpoints(command);
      case 'query': return this.ask(command);
      case 'quit': return { ok: true };
      default: throw new Error(`no such op: ${command?.op}`);
    }
  }
}

// The library's errors carry a code and a text, at one of two places.
function reason(error) {
  const inner = error?.error ?? error?.response?.error;
  return inner ? `${inner.code}: ${inner.message}` : String(error?.message ?? error);
}

async function main() {
  const client = new Client(options(process.argv.slice(2)));
  const version = require('@tars/rpc/package.json').version;
  answer({ ready: true, client: `@tars/rpc ${version}` });
  for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    let command;
    try {
      command = JSON.parse(line);
      answer(await client.run(command));
    } catch (error) {
      answer({ ok: false, error: reason(error) });
    }
    if (command?.op === 'quit') break;
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(2);
});
