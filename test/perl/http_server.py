#!/usr/bin/env python3
"""An HTTP server that misbehaves, for test/t/*_http*.pl.

http_server.py PORTFILE LOGFILE

Listens on 127.0.0.1 and ::1, on a port that it writes to PORTFILE. The path says what it does. Each request, and each
connection that the client closes before its answer is complete, is a line of JSON in LOGFILE.
"""
import asyncio
import ctypes
import email.utils
import gzip
import json
import os
import random
import signal
import sys
import time

seen = {}					# how often each idempotency key came, or the same body to the same path
log = open(sys.argv[2], 'a', buffering=1)


def note(**what):
	what['at'] = time.time()
	log.write(json.dumps(what) + '\n')


def answer(status, body=b'', headers=(), length=None):
	if isinstance(body, (dict, list)):
		body = json.dumps(body).encode()
		headers = [('Content-Type', 'application/json'), *headers]
	lines = [f'HTTP/1.1 {status} x']
	lines += [f'{k}: {v}' for k, v in headers]
	lines += [f'Content-Length: {len(body) if length is None else length}', '', '']
	return '\r\n'.join(lines).encode() + body


async def serve(reader, writer):
	try:
		while True:
			head = await reader.readuntil(b'\r\n\r\n')
			first, *lines = head.decode('latin-1').split('\r\n')
			method, path, _ = first.split(' ')
			headers = {}
			for line in lines:
				if ':' in line:
					k, v = line.split(':', 1)
					headers[k.strip().lower()] = v.strip()
			body = await reader.readexactly(int(headers.get('content-length', 0)))
			key = headers.get('idempotency-key') or (path, headers.get('ce-id', ''), body)
			seen[key] = seen.get(key, 0) + 1
			note(method=method, path=path, headers=headers, body=body[:10000].decode('latin-1'), n=seen[key])
			if not await respond(reader, writer, method, path, headers, body, seen[key]):
				break
	except (asyncio.IncompleteReadError, ConnectionError, OSError):
		pass
	finally:
		writer.close()


async def gone(reader, path):
	"""Waits until the client closes, and notes it."""
	while await reader.read(4096):
		pass
	note(closed=path)


def nearly_right(rng):
	"""An answer with a few bytes, or pieces, that are wrong."""
	pieces = [b'HTTP/1.1 ', rng.choice([b'200', b'202', b'404', b'429', b'503', b'103', b'99999', b'-1']), b' OK\r\n']
	headers = [b'Content-Type: application/json\r\n', b'Content-Type: text/plain; charset=x\r\n', b'Retry-After: 1\r\n', b'Retry-After: Sun, 29-Nov-26 08:00:30 GMT\r\n', b'Content-Encoding: gzip\r\n',
		b'Transfer-Encoding: chunked\r\n', b'Content-Length: 7\r\n', b'Content-Length: 99999999999999999999\r\n', b'X:\r\n', b': y\r\n', b' folded\r\n', b'X-\xff\x80: \xe4\x00\r\n', b'X: ' + b'y' * 500 + b'\r\n']
	pieces += rng.choices(headers, k=rng.randrange(8))
	pieces += [b'\r\n', rng.choice([b'{"a": [1]}', b'{"a": ', b'5\r\nabcde\r\n0\r\n\r\n', b'fffffffff\r\nx', b'\x1f\x8b\x08\x00\x00', gzip.compress(b'{}'), b'\xff\x00\xfe', '"\u00fc\\u0000"'.encode()])]
	if rng.random() < 0.3:
		pieces.insert(rng.randrange(len(pieces)), rng.choice(pieces))
	data = bytearray(b''.join(pieces))
	for _ in range(rng.randrange(6)):
		at = rng.randrange(len(data))
		data[at:at + rng.randrange(3)] = bytes(rng.randrange(256) for _ in range(rng.randrange(3)))
	return bytes(data)


async def respond(reader, writer, method, path, headers, body, n):
	"""Answers a request. False: close the connection."""
	what, _, arg = path[1:].partition('?')[0].partition('/')
	send = writer.write
	if what == 'echo':
		send(answer(200, {'method': method, 'path': path, 'headers': headers, 'body': body.decode('latin-1')}))
	elif what == 'text':
		send(answer(200, 'gr\u00fc\u00dfe'.encode(), [('Content-Type', 'text/plain')]))
	elif what == 'binary':
		send(answer(200, b'\x00\xff\x01', [('Content-Type', 'image/x')]))
	elif what == 'typed':
		send(answer(200, b'\x00\xff\xfe', [('Content-Type', 'x/' + dict(headers).get('authorization', ''))]))
	elif what == 'empty':
		send(answer(204))
	elif what == 'notjson':
		send(answer(200, b'{oops', [('Content-Type', 'application/json')]))
	elif what == 'status':
		send(answer(int(arg), b'body of ' + arg.encode(), [('Content-Type', 'text/plain')]))
	elif what == 'leaks':			# sends back in a failure what it got, as JSON of PHP writes it
		send(answer(400, json.dumps({'headers': headers, 'body': body.decode('latin-1')}).replace('/', '\\/').encode(), [('Content-Type', 'application/json')]))
	elif what == 'gate':			# 503, or another status, until the test says so
		name, _, status = arg.partition('/')
		up = os.path.exists(f'{sys.argv[1]}.{name}')
		send(answer(200 if up else int(status or 503), b'' if up else b'gate of ' + headers.get('x-key', name).encode()))
	elif what == 'shaky':			# sometimes fails, or cuts the connection when it has what it needs
		chance = random.random()
		if chance < 0.05:
			send(answer(503))
		else:
			note(path=path, headers=headers, body=body.decode('latin-1'), ok=True)
			if chance < 0.08:
				return False
			send(answer(200))
	elif what == 'loaded':			# takes a moment, and then as shaky; says whose request it was, or that it calls back
		await asyncio.sleep(random.random() * 0.1)
		chance = random.random()
		if chance < 0.05:
			send(answer(503))
		else:
			note(path=path, headers=headers, body=body.decode('latin-1'), ok=True)
			if chance < 0.08:
				return False
			send(answer(202) if arg == 'callback' else answer(200, {'key': headers.get('idempotency-key')}))
	elif what == 'refuses':			# what contains a text
		send(answer(400 if arg.encode() in body else 200))
	elif what == 'flaky':
		send(answer(503 if n == 1 else 200, {'n': n}))
	elif what == 'later':
		send(answer(429, b'', [('Retry-After', arg)]) if n == 1 else answer(200, {'n': n}))
	elif what == 'later-date':
		date = email.utils.formatdate(time.time() + int(arg), usegmt=True)
		send(answer(429, b'', [('Retry-After', date)]) if n == 1 else answer(200, {'n': n}))
	elif what == 'slow':
		done, _ = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(float(arg))), asyncio.ensure_future(gone(reader, path))],
			return_when=asyncio.FIRST_COMPLETED)
		send(answer(200, {'slow': arg}))
		return False
	elif what == 'until':			# the test says so: RomancyHttp's let()
		name, _, status = arg.partition('/')
		left = asyncio.ensure_future(gone(reader, path))
		while not os.path.exists(f'{sys.argv[1]}.{name}') and not left.done():
			await asyncio.sleep(0.02)
		left.cancel()
		await asyncio.wait([left])		# else it still reads when the next request is to be read
		send(answer(int(status or 200), {'until': name}))
	elif what == 'accept':			# 202, where a name is given when the test says so
		while arg and not os.path.exists(f'{sys.argv[1]}.{arg}'):
			await asyncio.sleep(0.02)
		send(answer(202, headers.get('romancy-callback', '').encode(), [('Content-Type', 'text/plain')]))
	elif what == 'fuzz':			# an answer that is nearly right; the argument is the seed
		send(nearly_right(random.Random(arg)))
		return False
	elif what == 'cut':
		send(answer(200, b'0123456789', length=100))
		return False
	elif what == 'half-header':
		send(b'HTTP/1.1 200 OK\r\nContent-Ty')
		return False
	elif what == 'hang':
		send(b'HTTP/1.1 200 OK\r\nContent-Ty')
		await writer.drain()
		await gone(reader, path)
		return False
	elif what == 'endless':
		send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
		while True:
			send(b'1000\r\n' + b'x' * 4096 + b'\r\n')
			await writer.drain()
	elif what == 'headers':
		send(b'HTTP/1.1 200 OK\r\n')
		while True:
			send(b'X-More: ' + b'y' * 1000 + b'\r\n')
			await writer.drain()
	elif what == 'many-headers':
		send(answer(200, b'', [('X', str(i)) for i in range(int(arg))]))
	elif what == 'bomb':
		send(answer(200, gzip.compress(b'\0' * 50000000), [('Content-Encoding', 'gzip'), ('Content-Type', 'text/plain')]))
	elif what == 'gzip':
		send(answer(200, gzip.compress(b'{"packed": true}'), [('Content-Encoding', 'gzip'), ('Content-Type', 'application/json')]))
	elif what == 'moved':
		send(answer(301, b'', [('Location', 'http://169.254.169.254/latest/meta-data/')]))
	elif what == 'early':
		send(b'HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n' + answer(200, {'early': True}))
	elif what == 'closes':
		# as if the connection could be used again
		send(answer(200, {'closes': True}))
		await writer.drain()
		return False
	else:
		send(answer(404, b'no such path'))
	await writer.drain()
	return True


async def main():
	server = await asyncio.start_server(serve, '127.0.0.1', 0, backlog=2000)
	port = server.sockets[0].getsockname()[1]
	try:
		await asyncio.start_server(serve, '::1', port)
	except OSError:
		pass				# no IPv6 here
	with open(sys.argv[1] + '.new', 'w') as f:
		f.write(str(port))
	os.rename(sys.argv[1] + '.new', sys.argv[1])
	await server.serve_forever()


if sys.platform == 'linux':		# ends with its parent, also where that is killed: prctl(PR_SET_PDEATHSIG)
	ctypes.CDLL(None).prctl(1, signal.SIGKILL)

import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
asyncio.run(main())
