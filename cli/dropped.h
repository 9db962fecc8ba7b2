/* dropped.h - pictures that were dropped into a line of the chat. */
#ifndef QVL_CLI_DROPPED_H
#define QVL_CLI_DROPPED_H

#include <stddef.h>

/* A stretch of the line: text as typed, or the path of a picture. */
struct qvl_piece {
    int is_picture;
    char *text;
};
struct qvl_pieces {
    struct qvl_piece *v;
    size_t n;
};

/* Splits a line. A word is a picture when, written as terminals paste paths ('quoted', "quoted", with\ backslashes, as
 * file:// URL, or plain), it names an existing file that looks like a picture. Pictures at the end of the line are moved to
 * its beginning, since questions follow pictures; one amid the text stays where it is. Returns -1 without memory. */
int qvl_pieces_split(struct qvl_pieces *p, const char *line);
void qvl_pieces_free(struct qvl_pieces *p);

/* An absolute path of what the user typed after a command: quotes, backslashes, file:// and ~ undone. Release with free;
 * NULL without memory. */
char *qvl_typed_path(const char *typed);

#endif
