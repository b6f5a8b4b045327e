#!/usr/bin/env python3
"""The world outside the shop, for demo.sh: services that are slow, fail, limit, hang and lose their answers.

services.py FOLDER

A payment provider (/charges, /refunds), a carrier (/parcels) and a warehouse (/events) on one port, accounting (/events) on
another, which refuses connections until SIGUSR1. FOLDER/ports has both ports; each line of FOLDER/books is something that a
service did or answered. Each service does a thing once for an Idempotency-Key, whatever happens to its answer.
"""
import base64
import ctypes
import hashlib
import hmac
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if sys.platform == 'linux':					# ends with the demo, also where that is killed: prctl(PR_SET_PDEATHSIG)
	ctypes.CDLL(None).prctl(1, signal.SIGKILL)

folder = sys.argv[1]
API_KEY = os.environ['API_KEY']				# what the shop has to show
SIGNING_KEY = base64.b64decode(os.environ['SIGNING_KEY'].removeprefix('whsec_'))
books = open(f'{folder}/books', 'a', buffering=1)
lock = threading.Lock()
requests = {}								# how often each key came
done = {}									# what was answered to it


def note(service, what, **more):
	books.write(json.dumps({'service': service, 'what': what, 'at': time.time(), **more}) + '\n')


def charge(order):
	"""The payment provider: a charge, or a refusal."""
	if order['card'] == 'expired':
		return 402, {'error': 'card_declined'}
	return 200, {'id': 'ch_' + hashlib.sha256(order['order_id'].encode()).hexdigest()[:24], 'amount': order['amount']}


def refund(order):
	return 200, {'amount': order['amount']}


def parcel(order):
	"""The carrier: a parcel, or a refusal."""
	if order['city'] == 'Atlantis':
		return 422, {'error': 'unknown_city'}
	return 200, {'tracking': 'RM' + hashlib.sha256(order['order_id'].encode()).hexdigest()[:12].upper()}


services = {'/charges': ('payments', 'charge', charge), '/refunds': ('payments', 'refund', refund), '/parcels': ('carrier', 'parcel', parcel)}


class Services(BaseHTTPRequestHandler):
	protocol_version = 'HTTP/1.1'

	def log_message(self, *args):
		pass

	def answer(self, status, body=None, headers=()):
		body = b'' if body is None else json.dumps(body).encode()
		self.send_response(status)
		for name, value in [('Content-Type', 'application/json'), ('Content-Length', str(len(body))), *headers]:
			self.send_header(name, value)
		self.end_headers()
		self.wfile.write(body)

	def handle(self):
		try:
			super().handle()
		except ConnectionError:
			pass

	def do_POST(self):
		body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
		if self.path == '/events':
			self.events(body)
		elif self.headers.get('Authorization') != f'Bearer {API_KEY}':
			self.answer(401)
		else:
			order = json.loads(body)
			self.order(order.get('input', order))		# a compensation says what it undoes: {"input": ..., "result": ...}

	def order(self, order):
		"""Charges, refunds and parcels: what an order meets depends on the order and on how often it came."""
		service, what, act = services[self.path]
		key = self.headers['Idempotency-Key']
		with lock:
			requests[key] = n = requests.get(key, 0) + 1
		luck = hashlib.sha256(f'{what} {order["order_id"]} {n}'.encode()).digest()
		misfortune = {0: 'fails', 1: 'limits', 2: 'hangs', 3: 'loses the answer'}.get(luck[0] // 12)
		if misfortune:
			note(service, misfortune, key=key)
		if misfortune == 'fails':
			return self.answer(503, {'error': 'try_again'})
		if misfortune == 'limits':
			return self.answer(429, {'error': 'too_many_requests'}, [('Retry-After', '1')])
		if misfortune == 'hangs':
			self.close_connection = True
			while self.connection.recv(4096):		# until the client has had enough
				pass
			return
		time.sleep((0.1 if service == 'payments' else 1) * (1 + luck[1] / 255))
		with lock:
			if key not in done:
				done[key] = act(order)
				if done[key][0] == 200:
					note(service, what, key=key, order_id=order['order_id'], amount=order.get('amount'))
				else:
					note(service, 'refuses', key=key, order_id=order['order_id'])
			else:
				note(service, 'repeats its answer', key=key)
		if misfortune:
			self.close_connection = True
		else:
			self.answer(*done[key])

	def events(self, body):
		"""Receivers of CloudEvents, one or a batch of them, signed by Standard Webhooks."""
		receiver = self.server.name
		signed = '.'.join([self.headers['webhook-id'], self.headers['webhook-timestamp'], body.decode()]).encode()
		signature = 'v1,' + base64.b64encode(hmac.digest(SIGNING_KEY, signed, 'sha256')).decode()
		if signature not in self.headers['webhook-signature'].split(' '):
			note(receiver, 'forged')
			return self.answer(401)
		events = json.loads(body)
		for event in events if isinstance(events, list) else [events]:
			note(receiver, 'event', id=event['id'], type=event['type'], subject=event['subject'])
		self.answer(204)


def server(name):
	s = ThreadingHTTPServer(('127.0.0.1', 0), Services, bind_and_activate=False)
	s.name, s.request_queue_size, s.daemon_threads = name, 1000, True
	s.server_bind()							# the port is ours; it refuses connections until server_activate()
	return s


def open_for_business(s):
	s.server_activate()
	threading.Thread(target=s.serve_forever, daemon=True).start()


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
shop_side, accounting = server('warehouse'), server('accounting')
open_for_business(shop_side)
with open(f'{folder}/ports.new', 'w') as f:
	print(shop_side.server_port, accounting.server_port, file=f)
os.rename(f'{folder}/ports.new', f'{folder}/ports')
signal.sigwait([signal.SIGUSR1])
note('accounting', 'opens')
open_for_business(accounting)
threading.Event().wait()
