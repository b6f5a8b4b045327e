#!/usr/bin/env node
// activity_worker.js CONNECTION QUEUE [TASKS]: runs the activities of a queue.
// An activity is a function in activities: (input, task) => result, which may be a promise.
'use strict';

const { code, connect, loop, message, name, refused } = require('./loop');

const LEASE = 30; // seconds; renewed at a third of it
const [connection, queue, maxTasks = '1'] = process.argv.slice(2);

class NonRetryable extends Error {}

const activities = {
	upper: async (input) => String(input).toUpperCase(),
	work: async (input, task) => {
		await new Promise((resolve) => setTimeout(resolve, input.ms ?? 20));
		if ((input.fail ?? 0) >= task.attempt) throw new RangeError(`bad luck with ${input.n}`);
		if (input.never) throw new NonRetryable('this one never works');
		return { n: input.n, attempt: task.attempt };
	},
};

// Renews the leases of the tasks in hand, over a connection of its own.
function renewer(tasks) {
	let client = null;
	const timer = setInterval(async () => {
		for (const task of [...tasks]) {
			try {
				client = client ?? (await connect(connection));
				const { rows } = await client.query('select romancy.heartbeat_activity($1, $2) as state',
					[task.token, task.details === undefined ? null : JSON.stringify(task.details)]);
				task.state = rows[0].state; // 'cancel_requested' or 'lost': long activities look at it
			} catch {
				client = null;
			}
		}
	}, (LEASE * 1000) / 3);
	return async () => {
		clearInterval(timer);
		if (client) await client.end().catch(() => {});
	};
}

async function run(client, task) {
	let result;
	try {
		if (!activities[task.activity]) throw new NonRetryable(`this worker has no activity ${task.activity}`);
		result = JSON.stringify((await activities[task.activity](task.input, task)) ?? null);
	} catch (error) {
		await fail(client, task, error);
		return;
	}
	try {
		await client.query('select romancy.complete_activity($1, $2)', [task.token, result]);
	} catch (error) {
		if (!refused(error)) throw error; // the connection; the task is another's when its lease ends
		await fail(client, task, error); // a result that is not accepted: too large, say
	}
}

function fail(client, task, error) {
	return client.query('select romancy.fail_activity($1, $2, $3, null, $4)',
		[task.token, message(error), code(error), error instanceof NonRetryable]);
}

async function work(client, tasks) {
	const stopRenewing = renewer(tasks);
	try {
		while (tasks.length > 0) {
			await run(client, tasks[0]);
			tasks.shift();
		}
	} finally {
		await stopRenewing();
	}
}

loop(connection, 'call romancy.poll_activities($1, $2, $3, $4)', [queue, name, Number(maxTasks), `${LEASE}s`], work);
