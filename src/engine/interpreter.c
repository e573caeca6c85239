#include <qjs/quickjs.h>

#include "engine/engine_int.h"

/* Only its number: aiosd does not link the interpreter. */

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

struct base_str engine_interpreter(void)
{
	return BASE_STR("quickjs-ng " TEXT(QJS_VERSION_MAJOR) "." TEXT(QJS_VERSION_MINOR) "." TEXT(
		QJS_VERSION_PATCH) QJS_VERSION_SUFFIX);
}
