/* exif.c - the orientation of a picture, from EXIF blocks and XMP packets; nothing else of them is read.
 *
 * Damaged metadata never makes a picture unreadable: the answer is then 1 (upright). */
#include "image/image_internal.h"

#include <string.h>

#define TAG_ORIENTATION 0x0112u
#define TYPE_SHORT      3u
#define TYPE_LONG       4u

struct tiff_view {
    const uint8_t *p;
    size_t size;
    int big; /* byte order of the block: 1 = Motorola */
};

static uint32_t u16(const struct tiff_view *t, size_t at) { return t->big ? qvl_be16(t->p + at) : qvl_le16(t->p + at); }
static uint32_t u32(const struct tiff_view *t, size_t at) { return t->big ? qvl_be32(t->p + at) : qvl_le32(t->p + at); }

int qvl_exif_orientation(const uint8_t *exif, size_t size)
{
    while (size >= 6 && memcmp(exif, "Exif\0\0", 6) == 0) {
        exif += 6;
        size -= 6;
    }
    if (size < 8)
        return 1;
    struct tiff_view t = {exif, size, exif[0] == 'M'};
    if (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0)
        return 1;
    size_t ifd = u32(&t, 4);
    if (ifd > size - 2 || ifd < 8)
        return 1;
    uint32_t n = u16(&t, ifd);
    for (size_t i = 0; i < n; i++) {
        size_t at = ifd + 2 + i * 12;
        if (at + 12 > size)
            break;
        if (u16(&t, at) != TAG_ORIENTATION)
            continue;
        uint32_t type = u16(&t, at + 2), v = type == TYPE_SHORT ? u16(&t, at + 8) : type == TYPE_LONG ? u32(&t, at + 8) : 0;
        return v >= 1 && v <= 8 ? (int)v : 1;
    }
    return 0;
}

int qvl_xmp_orientation(const uint8_t *xmp, size_t size)
{
    static const char key[] = "tiff:Orientation";
    const size_t len = sizeof key - 1;
    for (size_t i = 0; size >= len + 3 && i <= size - len - 3; i++) {
        if (xmp[i] != 't' || memcmp(xmp + i, key, len) != 0)
            continue;
        const uint8_t *p = xmp + i + len; /* ="6" as an attribute, >6< as an element */
        size_t skip = p[0] == '>' ? 1 : p[0] == '=' && p[1] == '"' ? 2 : 0;
        if (skip && p[skip] >= '1' && p[skip] <= '8')
            return p[skip] - '0';
    }
    return 0;
}

/* EXIF decides when it has the tag; else XMP. */
static int choose(int exif, int xmp) { return exif ? exif : xmp ? xmp : 1; }

int qvl_exif_from_jpeg(const uint8_t *data, size_t size)
{
    static const char xmp_id[] = "http://ns.adobe.com/xap/1.0/"; /* its NUL belongs to it */
    int exif = 0, xmp = 0;
    size_t at = 2;
    while (at + 4 <= size && data[at] == 0xff) {
        uint8_t marker = data[at + 1];
        if (marker == 0xff) { /* fill byte */
            at++;
            continue;
        }
        if (marker == 0xda || marker == 0xd9) /* start of the coefficients, end of the picture */
            break;
        if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) { /* markers without a body */
            at += 2;
            continue;
        }
        size_t len = qvl_be16(data + at + 2);
        if (len < 2 || len > size - at - 2)
            break;
        const uint8_t *body = data + at + 4;
        if (marker == 0xe1 && !exif && len >= 8 && memcmp(body, "Exif\0\0", 6) == 0)
            exif = qvl_exif_orientation(body, len - 2);
        else if (marker == 0xe1 && !xmp && len - 2 > sizeof xmp_id && memcmp(body, xmp_id, sizeof xmp_id) == 0)
            xmp = qvl_xmp_orientation(body + sizeof xmp_id, len - 2 - sizeof xmp_id);
        at += 2 + len;
    }
    return choose(exif, xmp);
}

int qvl_exif_from_png(const uint8_t *data, size_t size)
{
    static const char xmp_id[] = "XML:com.adobe.xmp"; /* iTXt keyword; its NUL belongs to it */
    int exif = 0, xmp = 0;
    size_t at = 8;
    while (size - at >= 12 && at < size) {
        size_t len = qvl_be32(data + at);
        const uint8_t *type = data + at + 4, *body = data + at + 8;
        if (len > size - at - 12)
            break;
        if (memcmp(type, "eXIf", 4) == 0)
            exif = qvl_exif_orientation(body, len);
        else if (memcmp(type, "iTXt", 4) == 0 && len > sizeof xmp_id + 2 && memcmp(body, xmp_id, sizeof xmp_id) == 0 &&
                 body[sizeof xmp_id] == 0) /* uncompressed */
            xmp = qvl_xmp_orientation(body + sizeof xmp_id, len - sizeof xmp_id);
        at += 12 + len;
    }
    return choose(exif, xmp);
}
