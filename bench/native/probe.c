/* Links exactly where GNU libsigsegv is installed. */
#include <sigsegv.h>

int main(void) { return libsigsegv_version == 0; }
