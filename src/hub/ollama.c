/* ollama.c - models that Ollama keeps: a manifest names blobs, and these are GGUF files.
 *
 *   STORE/manifests/registry.ollama.ai/library/NAME/TAG    JSON: layers [{mediaType, digest "sha256:…", size}]
 *   STORE/blobs/sha256-…
 * STORE is $OLLAMA_MODELS, ~/.ollama/models, or that of the system's service. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "hub/hub.h"

#define MODEL_LAYER "application/vnd.ollama.image.model"
#define VISION_LAYER "application/vnd.ollama.image.projector"
#define ADAPTER_LAYER "application/vnd.ollama.image.adapter"
enum { MAX_MANIFEST = 1 << 20, MAX_PLACE = 1024 };

/* The path of a layer's blob, checked to be there and whole. `store` ends before "/blobs". */
static int blob_path(char **out, const char *store, const json_t *layer, const char *manifest, qvl_err *err)
{
    const char *digest = json_string_value(json_object_get(layer, "digest"));
    json_t *size = json_object_get(layer, "size");
    char name[128];
    struct stat st;
    if (!digest || strncmp(digest, "sha256:", 7) != 0 || !qvl_hub_is_hex(digest + 7, 64))
        return qvl_fail(err, QVL_E_FORMAT, "%s: layers: digest: found %.80s, expected sha256: and 64 digits", manifest,
                        digest ? digest : "none");
    snprintf(name, sizeof name, "blobs/sha256-%s", digest + 7);
    char *path = qvl_path_join(store, name);
    if (!path)
        return qvl_fail_nomem(err, strlen(store), store);
    int rc = 0;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        rc = qvl_fail(err, QVL_E_NOTFOUND, "%s: its file %s is missing: fetch the model again with Ollama", manifest, path);
    else if (json_is_integer(size) && st.st_size != json_integer_value(size))
        rc = qvl_fail(err, QVL_E_FORMAT, "%s: its file %s: found %lld bytes, expected %lld", manifest, path, (long long)st.st_size,
                      (long long)json_integer_value(size));
    if (rc) {
        qvl_mem_free(path);
        return rc;
    }
    *out = path;
    return 0;
}

static int take_layers(struct qvl_hub_found *f, const json_t *layers, const char *store, const char *manifest, qvl_err *err)
{
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        const char *type = json_string_value(json_object_get(layer, "mediaType"));
        char **slot = type && strcmp(type, MODEL_LAYER) == 0 ? &f->path : type && strcmp(type, VISION_LAYER) == 0 ? &f->mmproj : NULL;
        if (type && strcmp(type, ADAPTER_LAYER) == 0)
            return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: the model comes with an adapter in a GGUF file, which is not supported", manifest);
        if (slot && *slot)
            return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: layers: found two of type %s", manifest, type);
        if (slot)
            QVL_TRY(blob_path(slot, store, layer, manifest, err));
    }
    return f->path ? 0 : qvl_fail(err, QVL_E_FORMAT, "%s: layers: none is a model (%s)", manifest, MODEL_LAYER);
}

/* The folder in which the manifests' own folder lies: STORE. */
static char *store_of(const char *manifest)
{
    const char *last = NULL;
    for (const char *p = manifest; (p = strstr(p, "/manifests/")); p++)
        last = p;
    return last ? qvl_strndup(manifest, (size_t)(last - manifest)) : NULL;
}

int qvl_ollama_manifest(struct qvl_hub_found *f, const char *path, qvl_err *err)
{
    json_t *root = NULL;
    char *store = store_of(path);
    struct stat st;
    int rc = 0;
    if (!store || stat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > MAX_MANIFEST)
        goto done;
    rc = qvl_json_read(&root, path, MAX_MANIFEST, err);
    const json_t *layers = json_object_get(root, "layers");
    if (rc == 0 && json_is_array(layers)) {
        rc = take_layers(f, layers, store, path, err);
        rc = rc ? rc : 1;
    } else if (rc == 0) {
        rc = qvl_fail(err, QVL_E_FORMAT, "%s: layers: missing or no list", path);
    }
done:
    json_decref(root);
    qvl_mem_free(store);
    return rc;
}

/* "NAME[:TAG]", "SPACE/NAME[:TAG]" or "HOST/SPACE/NAME[:TAG]" → the manifest's path below the store. 0, or -1: no such name. */
static int manifest_place(char out[MAX_PLACE], const char *text)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : strlen(text), slashes = 0;
    char name[256];
    if (!n || n >= sizeof name)
        return -1;
    snprintf(name, sizeof name, "%.*s", (int)n, text);
    for (size_t i = 0; i < n; i++)
        slashes += name[i] == '/';
    if (!qvl_hub_safe_path(name) || (colon && !qvl_hub_safe_word(colon + 1)) || slashes > 2)
        return -1;
    snprintf(out, MAX_PLACE, "manifests/%s%s/%s", slashes == 0 ? "registry.ollama.ai/library/" : slashes == 1 ? "registry.ollama.ai/" : "",
             name, colon ? colon + 1 : "latest");
    return 0;
}

static int in_store(struct qvl_hub_found *f, const char *store, const char *place, qvl_err *err)
{
    char *path = qvl_path_join(store, place);
    if (!path)
        return qvl_fail_nomem(err, strlen(store), store);
    int rc = qvl_file_exists(path) ? qvl_ollama_manifest(f, path, err) : 0;
    qvl_mem_free(path);
    return rc;
}

int qvl_ollama_find(struct qvl_hub_found *f, const char *text, char *looked, size_t looked_size, qvl_err *err)
{
    const char *set = getenv("OLLAMA_MODELS"), *home = getenv("HOME");
    char place[MAX_PLACE], *own = set && *set ? qvl_strdup(set) : home && *home ? qvl_path_join(home, ".ollama/models") : NULL;
    int rc = 0;
    *looked = 0;
    if (manifest_place(place, text) == 0) {
        if (own && qvl_dir_exists(own)) {
            snprintf(looked, looked_size, "%s", own);
            rc = in_store(f, own, place, err);
        }
        if (rc == 0 && !(set && *set))
            rc = in_store(f, "/usr/share/ollama/.ollama/models", place, err);
    }
    qvl_mem_free(own);
    if (rc == 1 && !f->name && !(f->name = qvl_strdup(text)))
        return qvl_fail_nomem(err, strlen(text), text);
    return rc;
}
