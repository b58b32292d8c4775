// Drives `still debug --dap` with the client library that debug adapters for Visual Studio Code are
// tested with, and checks what comes back. Arguments: the command, the recording, and facts about
// it as JSON. Says "ok N" after N checks.
'use strict';
const assert = require('assert');
const { DebugClient } = require('@vscode/debugadapter-testsupport');
const [still, recording, factsText, port] = process.argv.slice(2);
const facts = JSON.parse(factsText);
let checks = 0;
const same = (a, b, what) => { assert.deepStrictEqual(a, b, what); checks++; };
const holds = (v, what) => { assert.ok(v, what); checks++; };

async function main() {
  // The library gives the adapter one argument, so a shell splits it.
  const dc = new DebugClient(still, 'debug --dap', 'stillframe', { shell: true });
  dc.defaultTimeout = 30000;
  await dc.start(port ? Number(port) : undefined);
  const stop = async (ask) => {
    const [event] = await Promise.all([dc.waitForEvent('stopped'), ask]);
    const where = await dc.customRequest('stillframe/checkpoints', { count: 0 });
    return { ...event.body, at: where.body.current.checkpoint };
  };
  const frames = async (threadId) => (await dc.stackTraceRequest({ threadId })).body.stackFrames;
  const evaluate = async (expression, frameId) =>
    (await dc.evaluateRequest({ expression, frameId, context: 'watch' })).body.result;
  const refused = async (ask, text) => {
    await assert.rejects(ask, (e) => e.message.includes(text), text);
    checks++;
  };

  // Open, with a breakpoint, as an editor does.
  const [, , first] = await Promise.all([
    dc.configurationSequence(),
    dc.launch({ recording, moment: facts.start }),
    stop(Promise.resolve()),
  ]);
  same(first.reason, 'entry');
  same(first.at, facts.start);
  const threads = (await dc.threadsRequest()).body.threads;
  same(threads.length, 2);
  const mainId = facts.pid;
  const worker = threads.find((t) => t.id !== mainId).id;

  // The stack, with lines of our own source.
  let stack = await frames(mainId);
  same(stack[0].name, 'main');
  same(stack[0].line, facts.lines.FIRST);
  same(stack[0].source.path, facts.source);
  stack = await frames(worker);
  const named = (name) => stack.find((f) => f.name === name);
  same(named('note').line, facts.lines.NOTE);
  same(named('worker').line, facts.lines.LOOP);

  // Scopes and variables, lazy and in pages.
  const scopes = (await dc.scopesRequest({ frameId: named('worker').id })).body.scopes;
  const locals = scopes.find((s) => s.presentationHint === 'locals');
  const variables = async (variablesReference, more) =>
    (await dc.variablesRequest({ variablesReference, ...more })).body.variables;
  const local = (await variables(locals.variablesReference)).find((v) => v.name === 'local');
  same(local.value, '40');
  same(local.type, 'int');
  const globals = scopes.find((s) => s.name === 'Globals');
  holds(globals.expensive, 'globals are not to be fetched unasked');
  const own = ['box', 'counter', 'second', 'seen', 'stage', 'third'];
  const global = await variables(globals.variablesReference);
  same(global.map((v) => v.name).filter((n) => own.includes(n)), own);
  holds(!global.some((v) => v.name === 'local'), 'a local among the globals');
  const third = await variables(global.find((v) => v.name === 'third').variablesReference);
  same(third.find((v) => v.name === 'id').value, '3');
  const registers = scopes.find((s) => s.presentationHint === 'registers');
  const rip = (await variables(registers.variablesReference)).find((v) => v.name === 'rip');
  same(BigInt(rip.value), BigInt(named('worker').instructionPointerReference));
  const box = (await dc.evaluateRequest({ expression: 'box' })).body;
  const parts = await variables(box.variablesReference);
  same(parts.map((p) => p.name), ['numbers', 'first', 'label', 'weight']);
  const numbers = parts[0];
  same(numbers.indexedVariables, 300);
  const page = await variables(numbers.variablesReference, { filter: 'indexed', start: 290, count: 100 });
  same(page.length, 10);
  same(page[9].value, String(299 * 299));
  holds(parts[2].value.includes('"a box"'), parts[2].value);
  same(parts[3].value, '2.5');
  const [target] = await variables(parts[1].variablesReference);
  same([target.name, target.evaluateName], ['*', '(*box.first)']);
  const item = await variables(target.variablesReference);
  same(item.find((p) => p.name === 'id').value, '2');

  // Expressions.
  same(await evaluate('box.first->next->id + counter'), '3');
  same(await evaluate('local * 2', named('worker').id), '80');
  await refused(evaluate('nothing_of_the_kind'), 'nothing_of_the_kind');

  // Memory.
  const address = (await dc.evaluateRequest({ expression: 'counter' })).body.memoryReference;
  const memory = (await dc.customRequest('readMemory', { memoryReference: address, count: 4 })).body;
  same(Buffer.from(memory.data, 'base64').readInt32LE(0), 0);

  // A watched value: both sides of each change, both ways.
  const info = (await dc.dataBreakpointInfoRequest({ name: 'counter' })).body;
  await dc.setDataBreakpointsRequest({ breakpoints: [{ dataId: info.dataId }] });
  let s = await stop(dc.continueRequest({ threadId: mainId }));
  same([s.reason, s.at], ['data breakpoint', facts.changes[0]]);
  same(await evaluate('counter'), '7');
  s = await stop(dc.continueRequest({ threadId: mainId }));
  same([s.reason, s.at], ['data breakpoint', facts.changes[1]]);
  same(await evaluate('counter'), '43');
  s = await stop(dc.reverseContinueRequest({ threadId: mainId }));
  same([s.reason, s.at], ['data breakpoint', facts.changes[1] - 1]);
  s = await stop(dc.reverseContinueRequest({ threadId: mainId }));
  same([s.reason, s.at], ['data breakpoint', facts.changes[0] - 1]);
  same(await evaluate('counter'), '0');
  await dc.setDataBreakpointsRequest({ breakpoints: [] });

  // Steps of the main thread: over the checkpoints of its line to those of the next, and back.
  await dc.customRequest('stillframe/goto', { moment: facts.start });
  s = await stop(dc.nextRequest({ threadId: mainId }));
  same(s.at, facts.second);
  same((await frames(mainId))[0].line, facts.lines.SECOND);
  s = await stop(dc.stepBackRequest({ threadId: mainId }));
  same(s.at, facts.second - 1);
  same((await frames(mainId))[0].line, facts.lines.FIRST);

  // A line of the worker, and a function.
  const set = (await dc.setBreakpointsRequest({
    source: { path: facts.source }, breakpoints: [{ line: facts.lines.CHANGED }],
  })).body.breakpoints;
  same(set[0].verified, true);
  await stop(dc.customRequest('stillframe/goto', { moment: 'first' }));
  s = await stop(dc.continueRequest({ threadId: mainId }));
  same([s.reason, s.at, s.threadId], ['breakpoint', facts.changes[0], worker]);
  same(s.hitBreakpointIds, [set[0].id]);
  await dc.setBreakpointsRequest({ source: { path: facts.source }, breakpoints: [] });
  await dc.setFunctionBreakpointsRequest({ breakpoints: [{ name: 'change' }] });
  s = await stop(dc.continueRequest({ threadId: worker }));
  same([s.reason, s.at], ['function breakpoint', facts.changes[1]]);
  await dc.setFunctionBreakpointsRequest({ breakpoints: [] });

  // The history of a value, and moments.
  const history = (await dc.customRequest('stillframe/history', { expression: 'counter' })).body;
  same(history.changes.map((c) => [c.checkpoint, c.new]).slice(1), [[facts.changes[0], '7'], [facts.changes[1], '43']]);
  const console_ = (await dc.evaluateRequest({ expression: ':where', context: 'repl' })).body.result;
  holds(console_.startsWith(`checkpoint ${facts.changes[1]} `), console_);

  // The crash.
  await dc.setExceptionBreakpointsRequest({ filters: ['crash'] });
  s = await stop(dc.continueRequest({ threadId: mainId }));
  same([s.reason, s.at, s.threadId], ['exception', facts.crash, mainId]);
  const why = (await dc.exceptionInfoRequest({ threadId: mainId })).body;
  same(why.exceptionId, 'SIGSEGV');
  stack = await frames(mainId);
  same([stack[0].name, stack[0].line, stack[1].name], ['fall', facts.lines.FALL, 'main']);

  // Modules, sources, code.
  const modules = (await dc.modulesRequest({})).body.modules;
  holds(modules.some((m) => m.name.startsWith('debug_dap')), 'its module');
  const sources = (await dc.customRequest('loadedSources')).body.sources;
  holds(sources.some((x) => x.path === facts.source), 'its source');
  const text = (await dc.sourceRequest({ sourceReference: 0, source: { path: facts.source } })).body.content;
  holds(text.includes('/* FALL */'), 'its text');
  const code = (await dc.disassembleRequest({
    memoryReference: stack[0].instructionPointerReference, instructionOffset: -2, instructionCount: 5,
  })).body.instructions;
  same(code.length, 5);
  same(code[2].address, stack[0].instructionPointerReference);

  await refused(dc.customRequest('setVariable', {}), 'past cannot be changed');
  await refused(dc.launchRequest({ recording }), 'new session');
  await dc.disconnectRequest();
  dc.stopAdapter();
  console.log(`ok ${checks}`);
}
main().then(() => process.exit(0), (e) => { console.error(e.stack || e); process.exit(1); });
