// loop.js: what both workers do around their work: connect, poll, stop when asked, connect again.
'use strict';

const os = require('os');
const { Client } = require('pg');

const name = `${os.hostname()}/${process.pid}`; // the worker_id

// An error's message, as a call of romancy takes it.
const message = (error) => String(error?.message ?? error).replaceAll('\0', '').slice(0, 10000);

// Was a call refused by the server, over a connection that is as good as before?
const refused = (error) => error?.severity === 'ERROR' && !/^(08|53|57|58)/.test(error.code);

// The error_code that romancy is told: the server's SQLSTATE, or the error's name.
const code = (error) => (error?.severity ? error.code : error?.constructor?.name ?? 'Error');

async function connect(connection) {
	const client = new Client({ connectionString: connection });
	client.on('error', () => {}); // the next query fails
	await client.connect();
	return client;
}

// Cancels what a client is doing, by the protocol's own means: pg_cancel_backend() would hit another
// one behind a pool, where the backend that was asked for its pid may serve another client by now.
function cancel(connection, target) {
	const { connection: wire, host, port, ssl } = new Client({ connectionString: connection });
	const send = () => wire.cancel(target.processID, target.secretKey);
	wire.on('error', () => {}); // no server: then the call fails as well
	wire.on('connect', () => (ssl ? wire.requestSsl() : send()));
	wire.on('sslconnect', send);
	if (host.startsWith('/')) wire.connect(`${host}/.s.PGSQL.${port}`);
	else wire.connect(port, host);
}

// Calls work(client, tasks) with what the call sql, with args, gives, until SIGTERM or SIGINT: then the
// work under way ends. A lost connection is opened again with a growing pause.
async function loop(connection, sql, args, work) {
	let stopping = false;
	let wake = () => {}; // ends the pause between two attempts to connect
	let waiting = null; // the client that is blocked in the call

	async function serve() {
		const client = await connect(connection);
		try {
			while (!stopping) {
				waiting = client;
				let tasks = [];
				try {
					tasks = (await client.query(sql, args)).rows[0].tasks;
				} catch (error) {
					if (error.code !== '57014') throw error; // cancelled by stop()
				} finally {
					waiting = null;
				}
				if (tasks.length > 0) await work(client, tasks);
			}
		} finally {
			await client.end().catch(() => {});
		}
	}

	async function stop() {
		stopping = true;
		wake();
		while (waiting !== null) {
			cancel(connection, waiting); // again and again: the call may not have reached the server yet
			await new Promise((resolve) => setTimeout(resolve, 100));
		}
	}
	process.on('SIGTERM', stop);
	process.on('SIGINT', stop);

	for (let pause = 100; !stopping; pause = Math.min(pause * 2, 30000)) {
		const begun = Date.now();
		try {
			await serve();
		} catch (error) {
			if (stopping) break;
			if (Date.now() - begun > 60000) pause = 100;
			console.error(`connection: ${error.message}`);
			await new Promise((resolve) => {
				wake = resolve;
				setTimeout(resolve, pause * (0.5 + Math.random()));
			});
		}
	}
}

module.exports = { code, connect, loop, message, name, refused };
