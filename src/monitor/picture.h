/*-------------------------------------------------------------------------
 *
 * picture.h
 *		The steps that diagram, timeline and spans show: an instance's, with those of
 *		its children.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PICTURE_H
#define ROM_PICTURE_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "instances/instance.h"

/* Children of children of ... shown, and steps of an instance. */
#define ROM_PICTURE_DEPTH 5
#define ROM_PICTURE_STEPS 1000

typedef enum RomPictureKind
{
	ROM_PICTURE_ACTIVITY,
	ROM_PICTURE_TIMER,
	ROM_PICTURE_MESSAGE,
	ROM_PICTURE_CHILD,
	ROM_PICTURE_COMPENSATION,
	ROM_PICTURE_OTHER
} RomPictureKind;

typedef enum RomPictureState
{
	ROM_PICTURE_DONE,
	ROM_PICTURE_FAILED,
	ROM_PICTURE_OPEN
} RomPictureState;

typedef struct RomPicture RomPicture;

typedef struct RomPictureStep
{
	RomPictureKind kind;
	RomPictureState state;
	char	   *id;				/* activity_id; of a compensation, the step it
								 * undoes */
	char	   *name;			/* of a compensation: the activity that undoes */
	char	   *note;			/* what went wrong, or what is waited for; or
								 * NULL */
	int			attempts;		/* 1 unless there were more */
	Jsonb	   *errors;			/* of attempts that failed, the last ones,
								 * each {attempt, sqlstate, message, at}; or
								 * NULL */
	bool		parallel;		/* spawned */
	TimestampTz from;
	TimestampTz to;				/* the present for open ones */
	RomPicture *child;			/* or NULL */
	List	   *after;			/* of a canvas: the steps that it follows
								 * (NIL: none) */
	int			node;			/* for diagram: its number */
} RomPictureStep;

/* A step began, or ended, in the order of history; those that are not spawned do both at once. */
typedef struct RomPictureMark
{
	RomPictureStep *step;
	bool		begin;
	bool		end;
} RomPictureMark;

struct RomPicture
{
	pg_uuid_t	id;
	char	   *id_text;
	char	   *workflow;
	char	   *owner;
	char	   *parent;			/* the instance whose child it is, or NULL */
	char	   *parent_step;	/* the parent's step, or NULL */
	char	   *continued_from; /* the instance that it continues, or NULL */
	RomStatus	status;
	char	   *error;			/* message, or NULL */
	TimestampTz from;
	TimestampTz to;
	List	   *steps;			/* RomPictureStep, in order of their beginning */
	List	   *marks;			/* RomPictureMark; of a canvas: not used */
	bool		canvas;			/* the steps are its tasks */
	List	   *last;			/* of a canvas: the steps after which it ends */
	bool		cut;			/* there are more */
};

/* Reads it, in the current context. RM002 when there is none or the current user may not see it. */
extern RomPicture *rom_picture_read(const pg_uuid_t *id);

/* The same, but NULL where that would raise RM002. */
extern RomPicture *rom_picture_find(const pg_uuid_t *id);

/* The name of a step in a picture. */
extern char *rom_picture_label(const RomPictureStep *step);

/* A span of time in words: "12 ms", "3.4 s", "2 h 10 min". */
extern char *rom_picture_span(int64 usec);

/* s on one line, of at most max characters. */
extern char *rom_picture_line(const char *s, int max);

#endif							/* ROM_PICTURE_H */
