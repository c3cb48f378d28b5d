/* The walk along a path, for who changes what is at its end. */
#ifndef GUEST_NAMEI_H
#define GUEST_NAMEI_H

#include "guest/fs/internal.h"

/* A walk under way. `path` holds what is still to be walked, from `at` on. */
struct walk {
	struct inode *dir; /* a reference */
	char *path;	   /* PATH_MAX bytes */
	unsigned at;
	unsigned links; /* followed so far */
	bool parent, nofollow;
	struct name last; /* in path */
};

/* Starts at base (NULL: the root). The walk holds a directory and the path until walk_end. */
int walk_begin(struct walk *w, struct inode *base, const char *path);
void walk_end(struct walk *w);

/*
 * Walks up to the end of the path; with w->parent only up to the last name, which is then in
 * w->last (len 0: the path has none, it is the root). With w->nofollow a link at the end is what
 * is found.
 */
int walk_on(struct walk *w);
/* One component; *next gets a reference. Mount points need no folder below them. */
int walk_step(struct walk *w, const struct name *name, struct inode **next);
/* Puts the link's target in front of what is left of the path. */
int walk_follow(struct walk *w, struct inode *link);

/* What is mounted at /NAME, or NULL. */
struct super_block *mounted_at(const struct name *name);

static inline bool is_dot(const struct name *n)
{
	return n->len == 1 && n->s[0] == '.';
}

static inline bool is_dotdot(const struct name *n)
{
	return n->len == 2 && n->s[0] == '.' && n->s[1] == '.';
}

#endif
