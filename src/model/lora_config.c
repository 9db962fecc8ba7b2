/* lora_config.c - adapter_config.json: ranks and scales; everything that would need more than B (A x) is refused by name. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/lora.h"

enum { MAX_PATTERNS = 4096, MAX_PATTERN = 256, MAX_RANK = 4096 };

static int is_nothing(const json_t *v)
{
    return !v || json_is_null(v) || json_is_false(v) || (json_is_array(v) && !json_array_size(v)) ||
           (json_is_object(v) && !json_object_size(v));
}

/* PEFT keeps variants of LoRA in fields of their own, NAME_config; those that only bear on training are known. */
static int check_variants(const json_t *root, const char *what, qvl_err *err)
{
    static const char *const training[] = {"eva_config", "corda_config", "loftq_config", "lora_ga_config", "megatron_config",
                                           "runtime_config"};
    const char *key;
    json_t *v, *o;
    memcpy(&o, &root, sizeof o); /* jansson's iteration takes non-const pointers and does not write */
    json_object_foreach(o, key, v) {
        size_t n = strlen(key);
        int known = n < 7 || strcmp(key + n - 7, "_config") != 0;
        for (size_t i = 0; i < QVL_COUNT(training) && !known; i++)
            known = strcmp(key, training[i]) == 0;
        if (!known && !is_nothing(v))
            return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: %.60s: is set: this variant of LoRA is not supported", what, key);
    }
    return 0;
}

/* Fields that mean more than low-rank products when they say anything. */
static int check_plain(const json_t *root, const char *what, qvl_err *err)
{
    static const struct {
        const char *field, *why;
    } more[] = {{"use_dora", "DoRA also changes the length of the weights' columns"},
                {"modules_to_save", "it brings whole modules of its own"},
                {"target_parameters", "parameters of experts are not adapted"},
                {"trainable_token_indices", "it brings embeddings of its own"},
                {"layer_replication", "it repeats layers"},
                {"lora_bias", "it brings biases"},
                {"use_qalora", "QALoRA pools its input"},
                {"alora_invocation_tokens", "it begins to work behind certain tokens only"},
                {"use_bdlora", "its matrices are block diagonal"}};
    for (size_t i = 0; i < QVL_COUNT(more); i++)
        if (!is_nothing(json_object_get(root, more[i].field)))
            return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: %s: is set: %s, which is not supported", what, more[i].field, more[i].why);
    QVL_TRY(check_variants(root, what, err));
    const char *bias = json_string_value(json_object_get(root, "bias"));
    if (bias && strcmp(bias, "none") != 0)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: bias: found %s, expected none", what, bias);
    return 0;
}

/* Some ways to begin training subtract the adapter from the base weights: then the published base is not what it belongs to. */
static int check_start(const json_t *root, const char *what, qvl_err *err)
{
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const json_t *v = json_object_get(root, "init_lora_weights");
    const char *s = json_string_value(v);
    if (!s)
        return 0;
    for (size_t i = 0; i < QVL_COUNT(harmless); i++)
        if (strcmp(s, harmless[i]) == 0)
            return 0;
    return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: init_lora_weights: found %s, which changes the base weights: save the adapter as a plain one",
                    what, s);
}

static int take_number(double *out, const json_t *v, double low, double high, const char *what, const char *field, qvl_err *err)
{
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= low && x <= high))
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: expected a number from %g to %g", what, field, low, high);
    *out = x;
    return 0;
}

/* PEFT matches re.match("(.*\.)?(KEY)$", module). Keys are names or simple expressions; of the others those are refused that POSIX
 * does not have, or that could take unbounded memory: the C library copies what it repeats, so that each repetition of a
 * repetition or of a group doubles the expression. Single characters and sets may repeat. */
static int compile(regex_t *out, const char *key, const char *what, const char *field, qvl_err *err)
{
    char text[2 * MAX_PATTERN + 4096];
    size_t n = (size_t)snprintf(text, sizeof text, "^(.*\\.)?(");
    int bad = !*key || strlen(key) > MAX_PATTERN || strstr(key, "(?") || strpbrk(key, "{}"), in_set = 0, may_repeat = 0;
    for (const char *s = key; *s && !bad; s++) {
        in_set = *s == '[' || (in_set && *s != ']');
        bad = !in_set && strchr("*+?", *s) && !may_repeat;
        may_repeat = !strchr("*+?()|^$", *s);
        if (*s != '\\') {
            text[n++] = *s;
        } else if (in_set || !s[1] || !strchr("d.\\*+?()[]|^$", s[1])) { /* in a set it means itself to POSIX */
            bad = 1;
        } else if (*++s == 'd') {
            n += (size_t)snprintf(text + n, sizeof text - n, "[0-9]");
        } else {
            text[n++] = '\\';
            text[n++] = *s;
        }
    }
    snprintf(text + n, sizeof text - n, ")$");
    if (bad || regcomp(out, text, REG_EXTENDED | REG_NOSUB) != 0)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: %s: \"%.80s\" is no name of a module and no simple expression", what, field, key);
    return 0;
}

static int take_patterns(struct qvl_lora_pattern **out, size_t *n, const json_t *root, const char *field, double low, double high,
                         const char *what, qvl_err *err)
{
    json_t *v = json_object_get(root, field), *value;
    const char *key;
    if (is_nothing(v))
        return 0;
    if (!json_is_object(v) || json_object_size(v) > MAX_PATTERNS)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: expected an object of at most %d names", what, field, MAX_PATTERNS);
    *out = qvl_calloc(json_object_size(v), sizeof **out);
    if (!*out)
        return qvl_fail_nomem(err, json_object_size(v) * sizeof **out, what);
    json_object_foreach(v, key, value) {
        QVL_TRY(take_number(&(*out)[*n].value, value, low, high, what, field, err));
        QVL_TRY(compile(&(*out)[*n].module, key, what, field, err));
        ++*n;
    }
    return 0;
}

static int take_fields(struct qvl_lora_config *c, const json_t *root, const char *what, qvl_err *err)
{
    const char *type = json_string_value(json_object_get(root, "peft_type"));
    if (!type || strcmp(type, "LORA") != 0)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: peft_type: found %.40s, expected LORA", what, type ? type : "nothing");
    QVL_TRY(check_plain(root, what, err));
    QVL_TRY(check_start(root, what, err));
    QVL_TRY(take_number(&c->r, json_object_get(root, "r"), 1, MAX_RANK, what, "r", err));
    QVL_TRY(take_number(&c->alpha, json_object_get(root, "lora_alpha"), -1e6, 1e6, what, "lora_alpha", err));
    c->rslora = json_is_true(json_object_get(root, "use_rslora"));
    QVL_TRY(take_patterns(&c->ranks, &c->n_ranks, root, "rank_pattern", 1, MAX_RANK, what, err));
    return take_patterns(&c->alphas, &c->n_alphas, root, "alpha_pattern", -1e6, 1e6, what, err);
}

int qvl_lora_config_parse(struct qvl_lora_config *c, const char *text, size_t len, const char *what, qvl_err *err)
{
    json_t *root = NULL;
    *c = (struct qvl_lora_config){0};
    int rc = qvl_json_parse(&root, text, len, what, err);
    if (rc == 0)
        rc = take_fields(c, root, what, err);
    json_decref(root);
    if (rc)
        qvl_lora_config_free(c);
    return rc;
}

void qvl_lora_config_free(struct qvl_lora_config *c)
{
    for (size_t i = 0; i < c->n_ranks; i++)
        regfree(&c->ranks[i].module);
    for (size_t i = 0; i < c->n_alphas; i++)
        regfree(&c->alphas[i].module);
    qvl_mem_free(c->ranks);
    qvl_mem_free(c->alphas);
    *c = (struct qvl_lora_config){0};
}

static double lookup(const struct qvl_lora_pattern *p, size_t n, const char *module, double otherwise)
{
    for (size_t i = 0; i < n; i++)
        if (regexec(&p[i].module, module, 0, NULL, 0) == 0)
            return p[i].value;
    return otherwise;
}

void qvl_lora_config_of(const struct qvl_lora_config *c, const char *module, double *rank, double *scale)
{
    *rank = lookup(c->ranks, c->n_ranks, module, c->r);
    *scale = lookup(c->alphas, c->n_alphas, module, c->alpha) / (c->rslora ? sqrt(*rank) : *rank);
}
