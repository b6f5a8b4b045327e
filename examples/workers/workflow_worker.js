#!/usr/bin/env node
// workflow_worker.js CONNECTION QUEUE: runs workflows whose code is JavaScript.
// A workflow is an async function in workflows: (wf, input) => output. It may call wf.local() for an
// activity that runs right here, wf.activity() for one that romancy runs, wf.sleep() and wf.receive();
// everything else that it does must be the same in every replay.
'use strict';

const { code, loop, message, name, refused } = require('./loop');

const LEASE = 60; // seconds; renewed before each call that may take long
const [connection, queue] = process.argv.slice(2);

class Suspended extends Error {} // the instance was given back: let it pass
class ActivityError extends Error {
	constructor(error) {
		super(error.message);
		this.code = error.code ?? error.sqlstate;
	}
}

class Workflow {
	constructor(client, task) {
		this.client = client;
		this.token = task.token;
		this.counts = {};
		this.history = new Map();
	}

	async read() {
		for (let after = 0, n = 1000; n === 1000; ) {
			const { rows } = await this.client.query(
				'select seq, event_type, activity_id, data from romancy.read_history($1, $2)', [this.token, after]);
			for (const row of rows) {
				after = row.seq;
				if (row.activity_id !== null) this.history.set(row.activity_id, row);
			}
			n = rows.length;
		}
		return this;
	}

	step(base) {
		this.counts[base] = (this.counts[base] ?? 0) + 1;
		return `${base}:${this.counts[base]}`;
	}

	// The step's result in history, or undefined; throws the step's error.
	answer(step) {
		const row = this.history.get(step);
		if (!row) return undefined;
		if (row.event_type === 'ActivityFailed' || row.event_type === 'MessageTimeout')
			throw new ActivityError(row.data.error ?? { message: row.event_type, sqlstate: 'RM006' });
		return { value: row.event_type === 'ChannelMessageReceived' ? row.data.result.data : row.data.result };
	}

	async suspend(sql, args) {
		await this.client.query(sql, [this.token, ...args]);
		throw new Suspended();
	}

	async local(activity, input = null, attempts = 3) {
		const step = this.step(activity.name);
		const known = this.answer(step);
		if (known) return known.value;
		let result;
		for (let attempt = 1; ; attempt++) {
			await this.client.query('select romancy.extend_lease($1, $2)', [this.token, `${LEASE}s`]);
			try {
				result = await activity(input);
				break;
			} catch (error) {
				if (attempt < attempts) continue;
				await this.client.query('select romancy.record_failure($1, $2, $3, $4, $5)',
					[this.token, step, activity.name, message(error), code(error)]);
				throw new ActivityError({ message: message(error), code: code(error) });
			}
		}
		await this.client.query('select romancy.record_activity($1, $2, $3, $4, $5)',
			[this.token, step, activity.name, JSON.stringify(input), JSON.stringify(result ?? null)]);
		return result;
	}

	async activity(activity, input = null) {
		const step = this.step(activity);
		const known = this.answer(step);
		if (known) return known.value;
		return this.suspend('select romancy.suspend_activity($1, $2, $3, $4)', [step, activity, JSON.stringify(input)]);
	}

	async sleep(seconds) {
		const step = this.step('sleep');
		if (this.answer(step)) return undefined;
		return this.suspend('select romancy.suspend_timer($1, $2, $3)', [step, new Date(Date.now() + seconds * 1000)]);
	}

	async receive(channel, seconds = null) {
		const step = this.step(`receive_${channel}`);
		const known = this.answer(step);
		if (known) return known.value;
		return this.suspend('select romancy.suspend_receive($1, $2, $3, $4)',
			[step, channel, seconds === null ? null : `${seconds}s`]);
	}
}

async function greeting(who) {
	return `Hello, ${who}`;
}

const workflows = {
	greet: async (wf, input) => {
		let text = await wf.local(greeting, input.name);
		await wf.sleep(0.1);
		if (input.upper) text = await wf.activity('upper', text);
		return { text };
	},
};

async function run(client, task) {
	try {
		try {
			const output = await workflows[task.workflow](await new Workflow(client, task).read(), task.input);
			await client.query('select romancy.complete_workflow($1, $2)', [task.token, JSON.stringify(output ?? null)]);
		} catch (error) {
			if (error instanceof Suspended || error.code === 'RM009' || (error.severity && !refused(error))) throw error;
			// its own error, or one of a call that was refused: a result that is too large, say
			await client.query('select romancy.fail_workflow($1, $2, $3)',
				[task.token, message(error), error.code ?? code(error)]);
		}
	} catch (error) {
		if (error instanceof Suspended || error.code === 'RM009') return; // given back, or another worker's by now
		throw error; // the connection
	}
}

async function work(client, tasks) {
	for (const task of tasks) await run(client, task);
}

loop(connection, 'call romancy.poll_workflows($1, $2, 1, $3)', [queue, name, `${LEASE}s`], work);
