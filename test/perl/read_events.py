#!/usr/bin/env python3
"""Reads events of requests, as receivers do: with cloudevents and standardwebhooks from PyPI.

read_events.py SECRET... < LOG

LOG holds lines of JSON as http_server.py writes them. Each event is a line of JSON on standard output: path, signed (whether each
secret's signature holds), attributes, data (binary data in base64). A request that cannot be read is an error.
"""
import base64
import json
import sys
from datetime import datetime

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def holds(secret, body, headers):
	try:
		Webhook(secret).verify(body, headers, json_parse=False)
		return True
	except (WebhookVerificationError, UnicodeDecodeError):	# (it verifies texts only)
		return False


def plain(value):
	if isinstance(value, datetime):
		return value.isoformat()
	if isinstance(value, (bytes, bytearray)):
		return 'base64:' + base64.b64encode(value).decode()
	return value


for line in sys.stdin:
	request = json.loads(line)
	if 'path' not in request:
		continue
	headers, body = request['headers'], request['body'].encode('latin-1')
	signed = [holds(s, body, headers) for s in sys.argv[1:]]
	messages = [(headers, body)]
	if headers.get('content-type', '').startswith('application/cloudevents-batch+json'):
		messages = [({**headers, 'content-type': 'application/cloudevents+json'}, json.dumps(e).encode()) for e in json.loads(body)]
	for h, b in messages:
		event = from_http_event(HTTPMessage(headers=h, body=b))
		print(json.dumps({'path': request['path'], 'signed': signed, 'of': len(messages),
			'attributes': {k: plain(v) for k, v in event.get_attributes().items()}, 'data': plain(event.get_data())}, sort_keys=True))
	# what a thief could send: another body, and the same one later
	if len(signed) > 0 and signed[0]:
		late = {**headers, 'webhook-timestamp': str(int(headers['webhook-timestamp']) - 400)}
		print(json.dumps({'path': request['path'], 'forged': holds(sys.argv[1], body + b' ', headers), 'late': holds(sys.argv[1], body, late),
			'other': holds(sys.argv[1], body, {**headers, 'webhook-id': 'other'})}, sort_keys=True))
