/* config_read.h - typed access to the fields of a configuration file, with messages that name file and field. */
#ifndef QVL_MODEL_CONFIG_READ_H
#define QVL_MODEL_CONFIG_READ_H

#include <stdint.h>

#include "base/json.h"
#include "model/config.h"

/* An object of a file. The name is the file's, with the object's field when it is not the file's root:
 * "config.json: text_config". JSON null counts as absent everywhere. */
struct qvl_fields {
    const json_t *obj; /* NULL: every field is absent */
    const char *name;
    qvl_err *err;
};

#define QVL_REQUIRED INT64_MIN /* as a default: absence is an error */

/* The value, NULL when absent. */
const json_t *qvl_field(const struct qvl_fields *f, const char *key);
/* Whole numbers inside [lo, hi]. A default outside of it stands for "not given". */
int qvl_field_int(const struct qvl_fields *f, const char *key, int64_t lo, int64_t hi, int64_t def, int64_t *out);
int qvl_field_i32(const struct qvl_fields *f, const char *key, int lo, int hi, int64_t def, int *out);
/* Finite numbers inside [lo, hi]; absent: *out stays as it is. */
int qvl_field_real(const struct qvl_fields *f, const char *key, double lo, double hi, double *out);
int qvl_field_bool(const struct qvl_fields *f, const char *key, int def, int *out);
/* Borrowed from the JSON; NULL when absent. */
int qvl_field_string(const struct qvl_fields *f, const char *key, const char **out);
/* Up to max whole numbers inside [lo, hi]; a lone number counts as a list of one when `lone`. *n = -1 when absent. */
int qvl_field_ints(const struct qvl_fields *f, const char *key, int lo, int hi, int max, int lone, int *out, int *n);
/* An object, with its name put into buf; obj NULL when absent. */
int qvl_field_object(const struct qvl_fields *f, const char *key, struct qvl_fields *out, char *buf, size_t size);
/* "config.json: text_config: hidden_size: missing" */
int qvl_field_missing(const struct qvl_fields *f, const char *key);

/* The other files of the folder, checked against what config.json said (config_aux.c). Roots may be NULL. */
int qvl_config_generation(struct qvl_config *c, const json_t *generation, const json_t *config, qvl_err *err);
int qvl_config_preprocessor(struct qvl_config *c, const json_t *preprocessor, const char *file, qvl_err *err);
/* mean, std and pixel limits that the published models have. */
void qvl_config_image_default(struct qvl_image_config *image);

#endif
