/*-------------------------------------------------------------------------
 *
 * trace.h
 *		Ids of spans: an instance is a trace, with the instance's id as its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TRACE_H
#define ROM_TRACE_H

/*
 * The id of the span that is an attempt of a step, never 0. HTTP requests carry it (traceparent), and
 * spans() shows it. attempt 0: the step as a whole, where it had several attempts.
 */
extern uint64 rom_trace_span(const char *step, int attempt);

#endif							/* ROM_TRACE_H */
