/* Every allocation and every system call that reads can fail: the n-th one does, for many n. Each time the library must
 * return an error (or have coped), must not crash, and must give back all memory.
 *
 * The program replaces malloc and friends and the file calls by versions that count and fail on command; other libraries
 * (JSON, pictures) go through them too. Sanitizers bring their own malloc, so there the test is skipped. */
#define _GNU_SOURCE /* syscall numbers */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "formats/tensor_source.h"
#include "model/onnx_model.h"
#include "model/quantised.h"
#include "qvl.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED
int main(void)
{
    puts("skipped: sanitizers replace malloc themselves");
    return 77;
}
#else

#define TINY QVL_SOURCE_DIR "/models/tiny"

static atomic_long alloc_countdown = -1, io_countdown = -1, live, alloc_calls, io_calls, failed_calls;

static int fails(atomic_long *countdown, atomic_long *calls)
{
    atomic_fetch_add(calls, 1);
    if (atomic_load(countdown) < 0)
        return 0;
    if (atomic_fetch_sub(countdown, 1) != 0)
        return 0;
    atomic_fetch_add(&failed_calls, 1);
    return 1;
}

/* Seen by the shared libraries, too, although the project hides its symbols. */
#pragma GCC visibility push(default)

/* ---- the allocator of glibc under other names ---- */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void *aligned_alloc(size_t align, size_t n);
int posix_memalign(void **out, size_t align, size_t n);
void free(void *p);

static void *counted(void *p)
{
    if (p)
        atomic_fetch_add(&live, 1);
    return p;
}

void *malloc(size_t n)
{
    if (fails(&alloc_countdown, &alloc_calls)) {
        errno = ENOMEM;
        return NULL;
    }
    return counted(__libc_malloc(n));
}

void *calloc(size_t n, size_t size)
{
    if (fails(&alloc_countdown, &alloc_calls)) {
        errno = ENOMEM;
        return NULL;
    }
    return counted(__libc_calloc(n, size));
}

void *realloc(void *p, size_t n)
{
    if (fails(&alloc_countdown, &alloc_calls)) {
        errno = ENOMEM;
        return NULL;
    }
    void *q = __libc_realloc(p, n);
    if (!p && q)
        atomic_fetch_add(&live, 1);
    if (p && !q && n == 0)
        atomic_fetch_sub(&live, 1);
    return q;
}

void *aligned_alloc(size_t align, size_t n)
{
    if (fails(&alloc_countdown, &alloc_calls)) {
        errno = ENOMEM;
        return NULL;
    }
    return counted(__libc_memalign(align, n));
}

int posix_memalign(void **out, size_t align, size_t n)
{
    if (fails(&alloc_countdown, &alloc_calls))
        return ENOMEM;
    *out = counted(__libc_memalign(align, n));
    return *out ? 0 : ENOMEM;
}

void free(void *p)
{
    if (p)
        atomic_fetch_sub(&live, 1);
    __libc_free(p);
}

/* ---- file calls ---- */
ssize_t read(int fd, void *buf, size_t n)
{
    if (fails(&io_countdown, &io_calls)) {
        errno = EIO;
        return -1;
    }
    return (ssize_t)syscall(SYS_read, fd, buf, n);
}

int open(const char *path, int flags, ...)
{
    int mode = 0;
    va_list ap;
    va_start(ap, flags);
    if (flags & O_CREAT)
        mode = va_arg(ap, int);
    va_end(ap);
    if (fails(&io_countdown, &io_calls)) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

void *mmap(void *addr, size_t n, int prot, int flags, int fd, off_t offset)
{
    if (fails(&io_countdown, &io_calls)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, addr, n, prot, flags, fd, offset); /* NOLINT */
}

ssize_t write(int fd, const void *buf, size_t n)
{
    if (fd > 2 && fails(&io_countdown, &io_calls)) {
        errno = ENOSPC;
        return -1;
    }
    return (ssize_t)syscall(SYS_write, fd, buf, n);
}

int fsync(int fd)
{
    if (fails(&io_countdown, &io_calls)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

#pragma GCC visibility pop

/* ---- what is done while something fails ---- */

static int problems;
static qvl_model *shared; /* opened once, without failures */
static uint64_t outcome;  /* what the last run came to: a run that survives a failure must come to the same */

static void note(const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        outcome = (outcome ^ p[i]) * 0x100000001b3u;
}

static int open_model(qvl_model **m, int no_weights, qvl_err *err)
{
    qvl_model_params p;
    qvl_model_params_default(&p);
    p.path = TINY;
    p.no_weights = no_weights;
    p.no_memory_check = 1; /* reads /proc, which may fail without harm */
    return qvl_model_open(m, &p, err);
}

static int do_open(qvl_err *err)
{
    qvl_model *m = NULL;
    int rc = open_model(&m, 0, err);
    qvl_model_close(&m);
    return rc;
}

/* GGUF: found in a folder, two shards and a vision file. */
static int do_open_gguf(qvl_err *err)
{
    qvl_model *m = NULL;
    qvl_model_params p;
    qvl_model_params_default(&p);
    p.path = QVL_SOURCE_DIR "/tests/golden/models/gguf-moe";
    p.no_memory_check = 1;
    int rc = qvl_model_open(&m, &p, err);
    qvl_model_close(&m);
    return rc;
}

/* Tensors of a quantised checkpoint, without binding. */
static int open_quantised(const char *name, qvl_err *err)
{
    struct qvl_config c;
    struct qvl_tensors *t = NULL;
    struct qvl_quantised m;
    char path[256];
    snprintf(path, sizeof path, "%s/tests/data/quantised/%s", QVL_SOURCE_DIR, name);
    int rc = qvl_config_load(&c, path, err);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/tests/data/quantised/%s/quantised.safetensors", QVL_SOURCE_DIR, name);
    rc = qvl_safetensors_open(&t, path, err);
    if (rc == 0) {
        rc = qvl_quantised_open(&m, t, &c, err);
        qvl_quantised_close(&m);
    }
    qvl_config_free(&c);
    return rc;
}

static int do_open_nf4(qvl_err *err) { return open_quantised("bnb-nf4", err); }

static int do_open_fp8_experts(qvl_err *err) { return open_quantised("fp8-moe", err); }

/* A decoder from an ONNX export whose embedding has to be put in order. The tokenizer is left out: jansson's own scanner does not
 * survive running out of memory inside a string with escapes. */
static int do_open_onnx(qvl_err *err)
{
    static const char base[] = QVL_SOURCE_DIR "/tests/golden/models/sharded-bf16";
    struct qvl_config c = {0};
    struct qvl_tensors *own = NULL;
    struct qvl_onnx_model m = {0};
    int rc = qvl_config_load(&c, base, err);
    if (rc == 0)
        rc = qvl_safetensors_open(&own, base, err);
    if (rc == 0)
        rc = qvl_onnx_model_open(&m, QVL_SOURCE_DIR "/tests/data/onnx/slip", &c, own, err);
    qvl_onnx_model_close(&m);
    qvl_tensors_close(&own);
    qvl_config_free(&c);
    return rc;
}

#define KMIX QVL_SOURCE_DIR "/tests/golden/models/gguf-kmix/"

/* Halves from two places. */
static int do_open_halves(qvl_err *err)
{
    qvl_model *m = NULL;
    qvl_model_params p;
    qvl_model_params_default(&p);
    p.path = p.text = KMIX "Tiny-Q4_K_M.gguf";
    p.vision = KMIX "mmproj-Tiny-F16.gguf";
    p.no_memory_check = 1;
    int rc = qvl_model_open(&m, &p, err);
    qvl_model_close(&m);
    return rc;
}

static char export_dir[] = "/tmp/qvl-fault-XXXXXX";

static int do_export(qvl_err *err)
{
    qvl_model_params m;
    qvl_export_params p;
    qvl_export_result r = {.struct_size = sizeof r};
    char out[64];
    qvl_model_params_default(&m);
    m.path = KMIX "Tiny-Q4_K_M.gguf";
    qvl_export_params_default(&p);
    snprintf(out, sizeof out, "%s/x.gguf", export_dir);
    p.out = out;
    p.type = "q8_0";
    p.force = 1;
    int rc = qvl_export_gguf(&m, &p, &r, err);
    note(&r.text_loss, sizeof r.text_loss);
    qvl_free(r.text_path);
    qvl_free(r.mmproj_path);
    return rc;
}

/* Nothing but the two files of the last success is left, whatever failed. */
static void check_export_dir(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s/x.gguf", export_dir);
    int bad = remove(path) != 0;
    snprintf(path, sizeof path, "%s/mmproj-x.gguf", export_dir);
    bad |= remove(path) != 0;
    if (bad || rmdir(export_dir) != 0) {
        printf("FAIL export: %s is not as it should be\n", export_dir);
        problems++;
    }
}

/* Without genai_config.json beside it, for the reason of do_open_onnx. */
static int do_inspect_onnx(qvl_err *err)
{
    char *json = NULL;
    int rc = qvl_inspect(QVL_SOURCE_DIR "/tests/data/onnx/ops/zero4-32.onnx", &json, err);
    if (json)
        note("", 1);
    qvl_free(json);
    return rc;
}

static int do_inspect(qvl_err *err)
{
    char *json = NULL;
    int rc = qvl_inspect(TINY, &json, err);
    qvl_free(json);
    return rc;
}

static int do_answer(qvl_err *err)
{
    static const char messages[] =
        "[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"image\":\"examples/photo.jpg\"},"
        "{\"type\":\"text\",\"text\":\"Describe this image.\"}]}]";
    static const char *const stop[] = {"zzz"};
    qvl_session *s = NULL;
    qvl_session_params p;
    qvl_gen_params g;
    qvl_result r;
    char *json = NULL;
    qvl_session_params_default(&p);
    p.n_ctx = 256;
    p.n_threads = 2;
    int rc = qvl_session_open(&s, shared, &p, err);
    if (rc == 0)
        rc = qvl_session_add_json(s, messages, sizeof messages - 1, TINY, err);
    qvl_gen_params_default(&g, NULL);
    g.max_tokens = 3;
    g.stop = stop;
    g.n_stop = 1;
    g.trace_path = "/tmp/qvl-fault-trace.safetensors";
    if (rc == 0)
        rc = qvl_session_generate(s, &g, &r, err);
    if (rc == 0)
        rc = qvl_session_messages(s, &json, err);
    if (rc == 0)
        note(json, strlen(json));
    qvl_free(json);
    qvl_session_close(&s);
    return rc;
}

static int do_pictures(qvl_err *err)
{
    static const char *const files[] = {TINY "/examples/photo.jpg", TINY "/examples/tall.png", TINY "/examples/rotated.jpg"};
    qvl_session *s = NULL;
    qvl_session_params p;
    qvl_session_params_default(&p);
    p.n_ctx = 256;
    p.n_threads = 1;
    int rc = qvl_session_open(&s, shared, &p, err);
    for (size_t i = 0; i < 3 && rc == 0; i++) {
        qvl_part part = {.kind = QVL_PART_IMAGE_FILE, .data = files[i]};
        rc = qvl_session_add(s, QVL_ROLE_USER, &part, 1, err);
    }
    qvl_gen_params g; /* a picture decoded wrongly (a lost orientation, say) changes the babble that follows */
    qvl_result r;
    qvl_gen_params_default(&g, NULL);
    g.greedy = 0;
    g.temperature = 3;
    g.max_tokens = 8;
    if (rc == 0)
        rc = qvl_session_generate(s, &g, &r, err);
    if (rc == 0)
        note(r.ids, r.n_ids * sizeof *r.ids);
    qvl_session_close(&s);
    return rc;
}

static void note_file(const char *path)
{
    static char text[1 << 20];
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);
    for (ssize_t n; fd >= 0 && (n = (ssize_t)syscall(SYS_read, fd, text, sizeof text)) > 0;)
        note(text, (size_t)n);
    if (fd >= 0)
        close(fd);
}

static int problems;

/* A whole folder or nothing: whatever fails, a full disk among it, no part of one stays. */
static int pack(const char *path, const char *dir, qvl_err *err)
{
    static const char *const names[] = {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja",
                                        "generation_config.json", "preprocessor_config.json", "tokenizer_config.json",
                                        "video_preprocessor_config.json"};
    char stage[128], file[256];
    qvl_pack_params p;
    qvl_pack_params_default(&p);
    p.path = path;
    p.out = dir;
    p.n_threads = 2;
    int rc = qvl_pack(&p, NULL, err);
    snprintf(stage, sizeof stage, "%s.tmp-%ld", dir, (long)getpid());
    if (access(stage, F_OK) == 0 || (rc < 0 && access(dir, F_OK) == 0)) {
        printf("FAIL pack: something was left behind after: %s\n", err->msg);
        problems++;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(file, sizeof file, "%s/%s", dir, names[i]);
        if (rc == 0)
            note_file(file);
        unlink(file);
    }
    rmdir(dir);
    return rc;
}

static int do_pack(qvl_err *err) { return pack(TINY, "/tmp/qvl-fault-pack", err); }
static int do_pack_gguf(qvl_err *err) { return pack(QVL_SOURCE_DIR "/tests/golden/models/gguf-moe", "/tmp/qvl-fault-gguf", err); }

static int do_render(qvl_err *err)
{
    static const char messages[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"caf\\u0065\\u0301 ok\"},{\"role\":\"assistant\",\"content\":\"\","
                                   "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1,2.5,null]}}}]}],"
                                   "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}";
    char *text = NULL, *back = NULL;
    int32_t *ids = NULL;
    size_t len, n;
    int rc = qvl_render(shared, messages, sizeof messages - 1, &text, &len, err);
    if (rc == 0)
        rc = qvl_tokenize(shared, text, len, 0, &ids, &n, err);
    if (rc == 0)
        note(ids, n * sizeof *ids);
    if (rc == 0)
        rc = qvl_detokenize(shared, ids, n, 0, &back, &len, err);
    qvl_free(text);
    qvl_free(back);
    qvl_free(ids);
    return rc;
}

/* Fails call number n, for n = 0, 1, 2, ... and then in growing steps, until a run gets by without reaching it. */
static void sweep(const char *name, int (*fn)(qvl_err *), atomic_long *countdown, atomic_long *calls, long tries)
{
    qvl_err err = {0};
    for (int i = 0; i < 2; i++) /* caches of other libraries fill up first */
        if (fn(&err) < 0) {
            printf("FAIL %s does not even work: %s\n", name, err.msg);
            problems++;
            return;
        }
    long before = atomic_load(calls), runs = 0, errors = 0;
    outcome = 0;
    fn(&err);
    uint64_t expected = outcome;
    long total = atomic_load(calls) - before, step = total / tries + 1;
    for (long n = 0; n < total; n += n < tries / 2 ? 1 : step) {
        long base = atomic_load(&live), hit = atomic_load(&failed_calls);
        err.code = 0;
        err.msg[0] = 0;
        outcome = 0;
        atomic_store(countdown, n);
        int rc = fn(&err);
        atomic_store(countdown, -1);
        long leaked = atomic_load(&live) - base;
        runs++;
        errors += rc < 0;
        if (rc < 0 && (!err.msg[0] || err.code != rc)) {
            printf("FAIL %s, call %ld of %ld: code %d without a message (err.code %d)\n", name, n, total, rc, err.code);
            problems++;
        }
        if (rc >= 0 && atomic_load(&failed_calls) > hit && outcome != expected) {
            printf("FAIL %s, call %ld of %ld: no error, but another result\n", name, n, total);
            problems++;
        }
        if (leaked > 0) { /* a second, unhampered run tells a leak from a cache that grew */
            base = atomic_load(&live);
            atomic_store(countdown, n);
            fn(&err);
            atomic_store(countdown, -1);
            if (atomic_load(&live) > base) {
                printf("FAIL %s, call %ld of %ld: %ld blocks leaked\n", name, n, total, atomic_load(&live) - base);
                problems++;
            }
        }
        if (problems > 20)
            return;
    }
    printf("%-24s %6ld calls, %4ld runs, %4ld errors returned\n", name, total, runs, errors);
    if (!errors && total) {
        printf("FAIL %s: no failure was noticed\n", name);
        problems++;
    }
}

int main(void)
{
    qvl_err err = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (open_model(&shared, 0, &err) < 0) {
        printf("FAIL %s\n", err.msg);
        return 1;
    }
    sweep("open, memory", do_open, &alloc_countdown, &alloc_calls, 300);
    sweep("open, files", do_open, &io_countdown, &io_calls, 1000);
    sweep("open GGUF, memory", do_open_gguf, &alloc_countdown, &alloc_calls, 600);
    sweep("open GGUF, files", do_open_gguf, &io_countdown, &io_calls, 300);
    sweep("open nf4, memory", do_open_nf4, &alloc_countdown, &alloc_calls, 600);
    sweep("open FP8 experts, memory", do_open_fp8_experts, &alloc_countdown, &alloc_calls, 600);
    sweep("open FP8 experts, files", do_open_fp8_experts, &io_countdown, &io_calls, 300);
    sweep("open ONNX, memory", do_open_onnx, &alloc_countdown, &alloc_calls, 600);
    sweep("open ONNX, files", do_open_onnx, &io_countdown, &io_calls, 300);
    sweep("open halves, memory", do_open_halves, &alloc_countdown, &alloc_calls, 600);
    sweep("open halves, files", do_open_halves, &io_countdown, &io_calls, 300);
    if (!mkdtemp(export_dir))
        return 1;
    sweep("export, memory", do_export, &alloc_countdown, &alloc_calls, 300);
    sweep("export, files", do_export, &io_countdown, &io_calls, 300);
    check_export_dir();
    sweep("render, memory", do_render, &alloc_countdown, &alloc_calls, 1000);
    sweep("pictures, memory", do_pictures, &alloc_countdown, &alloc_calls, 600);
    sweep("pictures, files", do_pictures, &io_countdown, &io_calls, 200);
    sweep("answer, memory", do_answer, &alloc_countdown, &alloc_calls, 600);
    sweep("answer, files", do_answer, &io_countdown, &io_calls, 200);
    sweep("inspect, memory", do_inspect, &alloc_countdown, &alloc_calls, 200);
    sweep("inspect, files", do_inspect, &io_countdown, &io_calls, 200);
    sweep("inspect ONNX, memory", do_inspect_onnx, &alloc_countdown, &alloc_calls, 300);
    sweep("inspect ONNX, files", do_inspect_onnx, &io_countdown, &io_calls, 200);
    sweep("pack, memory", do_pack, &alloc_countdown, &alloc_calls, 200);
    sweep("pack, files", do_pack, &io_countdown, &io_calls, 200);
    sweep("pack GGUF, memory", do_pack_gguf, &alloc_countdown, &alloc_calls, 200);
    sweep("pack GGUF, files", do_pack_gguf, &io_countdown, &io_calls, 200);
    qvl_model_close(&shared);
    unlink("/tmp/qvl-fault-trace.safetensors");
    printf("%d problems\n", problems);
    return problems != 0;
}
#endif
