/* json.h - reading JSON with jansson, with errors that name the file. Writing JSON the way Python's json.dumps does. */
#ifndef QVL_BASE_JSON_H
#define QVL_BASE_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "base/buf.h"
#include "qvl.h"

/* Parses text (duplicate keys are an error). `what` names the source in messages. Release with json_decref. */
int qvl_json_parse(json_t **out, const char *text, size_t len, const char *what, qvl_err *err);
/* Reads and parses a file of at most max bytes. */
int qvl_json_read(json_t **out, const char *path, size_t max, qvl_err *err);
/* For files of which only texts matter: integers of any size pass, as reals. */
int qvl_json_read_texts(json_t **out, const char *path, size_t max, qvl_err *err);
/* Appends value as json.dumps(value, ensure_ascii=False) writes it: ", " and ": ", key order kept, shortest floats. */
int qvl_json_dump_python(struct qvl_buf *b, const json_t *value);
/* Appends a quoted, escaped JSON string. */
int qvl_json_quote(struct qvl_buf *b, const char *s, size_t len);

#endif
