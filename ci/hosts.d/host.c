/* The shim between Host.java and the C API. */
#include <jni.h>
#include <stdint.h>

#include "pagewise.h"

JNIEXPORT jlong JNICALL Java_Host_create(JNIEnv *env, jclass class, jlong pages) {
    (void)env, (void)class;
    size_t page = pagewise_page_size();
    pagewise_options options;
    pagewise_region *region;
    pagewise_options_default(&options, sizeof options);
    options.step = page;
    pagewise_region_new((size_t)pages * page, &options, &region);
    return (jlong)(intptr_t)region;
}

static size_t faults(const pagewise_region *region) {
    pagewise_stats stats = {0};
    pagewise_region_stats(region, &stats, sizeof stats);
    return (size_t)stats.faults;
}

JNIEXPORT jlong JNICALL Java_Host_churn(JNIEnv *env, jclass class, jlong handle, jint seed) {
    (void)env, (void)class;
    pagewise_region *region = (pagewise_region *)(intptr_t)handle;
    size_t page = pagewise_page_size(), len = pagewise_region_len(region);
    size_t before = faults(region);
    volatile unsigned char *bytes = pagewise_region_ptr(region);
    for (size_t at = 0; at < len; at += page) bytes[at] = (unsigned char)(at / page + (size_t)seed);
    for (size_t at = 0; at < len; at += page)
        if (bytes[at] != (unsigned char)(at / page + (size_t)seed)) return -1;
    if (pagewise_region_decommit(region, 0, len) != PAGEWISE_OK) return -1;
    return (jlong)(faults(region) - before);
}

JNIEXPORT jboolean JNICALL Java_Host_displaced(JNIEnv *env, jclass class) {
    (void)env, (void)class;
    return pagewise_is_displaced() ? JNI_TRUE : JNI_FALSE;
}
