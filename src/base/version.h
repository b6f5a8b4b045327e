/*-------------------------------------------------------------------------
 *
 * version.h
 *		The version of the SQL objects that this library goes with: EXTVERSION
 *		in the Makefile and default_version in romancy.control say the same.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_VERSION_H
#define ROM_VERSION_H

#define ROM_VERSION "0.1"

#endif							/* ROM_VERSION_H */
