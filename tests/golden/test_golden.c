/* Every golden against its model: at every CPU level in f32, and at the best level in bf16 arithmetic.
 *
 * tests/golden/<name> hold traces that belong to tests/golden/models/<name>, those of tests/golden/tiny to models/tiny. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "qvl.h"

static int failures, goldens, rows;

struct context {
    const char *label;
    int shown;
};

static void on_row(void *ud, const qvl_verify_row *r)
{
    struct context *c = ud;
    rows++;
    if (r->pass)
        return;
    if (!c->shown++)
        printf("FAIL %s\n", c->label);
    printf("    %-24s %-22s max_abs %.3g rel_l2 %.3g cos %.6f limit %.3g %s\n", r->name, r->shape, r->max_abs, r->rel_l2, r->min_cos,
           r->limit, r->note);
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static size_t list_goldens(const char *dir, char **out, size_t max)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len < 12 || strcmp(e->d_name + len - 12, ".safetensors") != 0 || n == max)
            continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        out[n++] = strdup(path);
    }
    if (d)
        closedir(d);
    qsort(out, n, sizeof *out, compare_names);
    return n;
}

static void run(const char *model_dir, const char *golden_dir, const char *cpu, qvl_precision precision)
{
    char *path[256], label[1400];
    qvl_err err = {0};
    qvl_model *m = NULL;
    qvl_model_params p;
    size_t n = list_goldens(golden_dir, path, 256);
    qvl_model_params_default(&p);
    p.path = model_dir;
    p.cpu = cpu;
    p.precision = precision;
    int rc = qvl_model_open(&m, &p, &err);
    if (rc == QVL_E_UNSUPPORTED && cpu) {
        printf("skip %s: %s\n", cpu, err.msg);
    } else if (rc < 0) {
        printf("FAIL %s: %s\n", model_dir, err.msg);
        failures++;
    }
    for (size_t i = 0; i < n; i++) {
        if (m) {
            qvl_session_params sp;
            int passed = 0;
            qvl_session_params_default(&sp);
            sp.n_threads = 1 + (uint32_t)(i % 3);
            sp.n_ctx = 2048;
            snprintf(label, sizeof label, "%s %s %s, %u threads", path[i], cpu ? cpu : "best", precision == QVL_PRECISION_F32 ? "f32" : "bf16",
                     sp.n_threads);
            struct context c = {.label = label};
            rc = qvl_verify(m, &sp, path[i], on_row, &c, &passed, &err);
            if (rc < 0)
                printf("FAIL %s: %s\n", label, err.msg);
            failures += rc < 0 || !passed;
            goldens++;
        }
        free(path[i]);
    }
    qvl_model_close(&m);
}

static void run_all(const char *model_dir, const char *golden_dir)
{
    static const char *const levels[] = {"ref", "avx2", "avx512", "avx512_bf16"};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        run(model_dir, golden_dir, levels[i], QVL_PRECISION_F32);
    run(model_dir, golden_dir, NULL, QVL_PRECISION_BF16);
    run(model_dir, golden_dir, "ref", QVL_PRECISION_BF16);
}

int main(void)
{
    const char *root = QVL_SOURCE_DIR "/tests/golden";
    char models[1024];
    run_all(QVL_SOURCE_DIR "/models/tiny", QVL_SOURCE_DIR "/tests/golden/tiny");
    snprintf(models, sizeof models, "%s/models", root);
    DIR *d = opendir(models);
    for (struct dirent *e; d && (e = readdir(d));) {
        char model[1300], golden[1300];
        if (e->d_name[0] == '.')
            continue;
        snprintf(model, sizeof model, "%s/%s", models, e->d_name);
        snprintf(golden, sizeof golden, "%s/%s", root, e->d_name);
        run_all(model, golden);
    }
    if (d)
        closedir(d);
    printf("%d goldens run, %d tensors compared, %d goldens failed\n", goldens, rows, failures);
    return failures || goldens < 60;
}
