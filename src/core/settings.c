/* What aios.yaml and policy.yaml may hold (settings.json), and the defaults that stand in for what they leave out. */
#include "core/settings.h"

#include <errno.h>

#include "base/check.h"
#include "core/core_int.h"

static struct base_json *embedded(void)
{
	struct base_json *doc;

	BASE_CHECK(base_json_parse(core_settings, &doc, NULL) == 0);
	return doc;
}

int core_settings_check(const char *which, const char *file, struct base_jv value, struct base_err *err)
{
	struct base_json *doc = embedded();
	struct base_schema *schema;
	int r;

	BASE_CHECK(base_schema_compile(base_jv_get(base_json_root(doc), which), &schema, NULL) == 0);
	r = base_schema_check(schema, value, err);
	if (r < 0)
		base_err_prefix(err, "%s", file);
	base_schema_free(schema);
	base_json_free(doc);
	return r;
}

static void put_members(struct base_jw *w, struct base_jv obj, const char *but)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv v;

	while (base_jv_next(obj, &it, &key, &v)) {
		if (but && base_str_is(key, but))
			continue;
		base_jw_key_str(w, key);
		base_jw_value(w, v);
	}
}

/* "key": what `given` has, and what only `defaults` has. */
static void put_merged(struct base_jw *w, const char *key, struct base_jv given, struct base_jv defaults)
{
	struct base_jv_iter it = {0};
	struct base_str name;
	struct base_jv v;

	base_jw_key(w, key);
	base_jw_obj(w);
	put_members(w, given, NULL);
	while (base_jv_next(defaults, &it, &name, &v)) {
		if (base_jv_kind(base_jv_get_str(given, name)) != BASE_JSON_NONE)
			continue;
		base_jw_key_str(w, name);
		base_jw_value(w, v);
	}
	base_jw_end_obj(w);
}

/* Only the models that a tier names: the state holds what counts, not a catalogue. */
static void put_prices(struct base_jw *w, struct base_jv models, struct base_jv defaults)
{
	struct base_jv given = base_jv_get(models, "prices"), tier, name, price;
	struct base_jv_iter it = {0};
	struct base_str key;

	base_jw_key(w, "prices");
	base_jw_obj(w);
	put_members(w, given, NULL);
	while (base_jv_next(defaults, &it, &key, &price)) {
		struct base_jv_iter tiers = {0};
		struct base_str unused;
		bool named = false;

		while (base_jv_next(base_jv_get(models, "tiers"), &tiers, &unused, &tier)) {
			struct base_jv_iter names = {0};

			while (base_jv_next(tier, &names, &unused, &name))
				named |= base_str_eq(base_jv_str(name), key);
		}
		if (!named || base_jv_kind(base_jv_get_str(given, key)) != BASE_JSON_NONE)
			continue;
		base_jw_key_str(w, key);
		base_jw_value(w, price);
	}
	base_jw_end_obj(w);
}

struct base_str core_settings_complete(struct base_jv config, struct base_arena *arena)
{
	struct base_json *doc = embedded();
	struct base_jv defaults = base_json_root(doc), models = base_jv_get(config, "models");
	struct base_buf raw, canon;
	struct base_jw w;

	base_buf_init(&raw, 16 << 20);
	base_buf_init(&canon, 16 << 20);
	w = base_jw_of(&raw);
	base_jw_obj(&w);
	put_members(&w, config, "models");
	if (base_jv_kind(models) == BASE_JSON_OBJ) {
		base_jw_key(&w, "models");
		base_jw_obj(&w);
		if (base_jv_kind(base_jv_get(models, "tiers")) == BASE_JSON_OBJ) {
			base_jw_key(&w, "tiers");
			base_jw_value(&w, base_jv_get(models, "tiers"));
		}
		put_merged(&w, "providers", base_jv_get(models, "providers"),
			base_jv_get(defaults, "providers"));
		put_prices(&w, models, base_jv_get(defaults, "prices"));
		base_jw_end_obj(&w);
	}
	base_jw_end_obj(&w);
	BASE_CHECK(base_json_canon(base_buf_view(&raw), &canon, NULL) == 0);
	base_buf_done(&raw);
	base_json_free(doc);
	return core_buf_to_arena(arena, &canon);
}
