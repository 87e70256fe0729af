/* The native half of GrowInPlace.java. */
#include <jni.h>
#include <stdint.h>

#include "pagewise.h"

static pagewise_region *of(jlong handle) {
    return (pagewise_region *)(intptr_t)handle;
}

/* Makes a status an exception. Returns 1 if there is one. */
static int thrown(JNIEnv *env, pagewise_status status) {
    if (status == PAGEWISE_OK) return 0;
    const char *kind = status == PAGEWISE_ERROR_LIMIT ? "GrowInPlace$Refused" : "java/lang/IllegalStateException";
    jclass class = (*env)->FindClass(env, kind);
    if (class) (*env)->ThrowNew(env, class, pagewise_last_error());
    return 1;
}

JNIEXPORT jlong JNICALL Java_GrowInPlace_create(JNIEnv *env, jclass class, jlong limit) {
    (void)class;
    pagewise_options options;
    pagewise_region *region = NULL;
    pagewise_options_default(&options, sizeof options);
    options.limit = (size_t)limit;
    options.name = "java";
    thrown(env, pagewise_region_new((size_t)1 << 34, &options, &region));
    return (jlong)(intptr_t)region;
}

JNIEXPORT jobject JNICALL Java_GrowInPlace_view(JNIEnv *env, jclass class, jlong handle, jlong bytes) {
    (void)class;
    return (*env)->NewDirectByteBuffer(env, pagewise_region_ptr(of(handle)), bytes);
}

/* Committed before it is used, so that a refusal is an exception here: at a touch by Java code, which no pagewise_try can
 * be around, it would end the process. */
JNIEXPORT jobject JNICALL Java_GrowInPlace_commit(JNIEnv *env, jclass class, jlong handle, jlong from,
                                                  jlong to) {
    if (thrown(env, pagewise_region_commit(of(handle), (size_t)from, (size_t)(to - from)))) return NULL;
    return Java_GrowInPlace_view(env, class, handle, to);
}

JNIEXPORT jlong JNICALL Java_GrowInPlace_committed(JNIEnv *env, jclass class, jlong handle) {
    (void)env, (void)class;
    return (jlong)pagewise_region_committed(of(handle));
}

JNIEXPORT void JNICALL Java_GrowInPlace_free(JNIEnv *env, jclass class, jlong handle) {
    (void)env, (void)class;
    pagewise_region_free(of(handle));
}

JNIEXPORT jint JNICALL Java_GrowInPlace_pageSize(JNIEnv *env, jclass class) {
    (void)env, (void)class;
    return (jint)pagewise_page_size();
}
