#include "flow/codec.h"

#include <errno.h>
#include <stdlib.h>

#include "flow/codec_int.h"

static JSClassID class_of(JSContext *ctx, const char *source)
{
	JSValue v = JS_Eval(ctx, source, strlen(source), "<class>", JS_EVAL_TYPE_GLOBAL);
	JSClassID id = JS_GetClassID(v);
	JS_FreeValue(ctx, v);
	return id;
}

int flow_codec_new(JSRuntime *rt, struct flow_codec **ret)
{
	JSContext *ctx = JS_NewContext(rt);
	struct flow_codec *c = calloc(1, sizeof(*c));
	if (!ctx || !c) {
		if (ctx)
			JS_FreeContext(ctx);
		free(c);
		return -ENOMEM;
	}
	c->rt = rt;
	c->to_json = JS_NewAtom(ctx, "toJSON");
	c->object = class_of(ctx, "({})");
	c->array = class_of(ctx, "[]");
	c->map = class_of(ctx, "new Map");
	c->set = class_of(ctx, "new Set");
	c->boxed[0] = class_of(ctx, "Object(1)");
	c->boxed[1] = class_of(ctx, "Object('')");
	c->boxed[2] = class_of(ctx, "Object(true)");
	c->boxed[3] = class_of(ctx, "Object(1n)");
	JS_FreeContext(ctx);
	*ret = c;
	return 0;
}

void flow_codec_free(struct flow_codec *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < CODEC_SLOTS; i++) {
		JS_FreeAtomRT(c->rt, c->by_atom[i].atom);
		JS_FreeAtomRT(c->rt, c->by_text[i].atom);
	}
	JS_FreeAtomRT(c->rt, c->to_json);
	free(c);
}
