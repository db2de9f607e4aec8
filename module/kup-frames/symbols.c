// SPDX-License-Identifier: GPL-2.0
/* What the kernel does not export is found by its name, when the module is loaded. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <asm/setup.h>

#include "kup_frames.h"

#define KUP_DEFINE(name) DEFINE_STATIC_CALL_NULL(kup_##name, name);
KUP_FUNCTIONS(KUP_DEFINE)
DEFINE_STATIC_CALL_NULL(kup_kallsyms_lookup_name, kallsyms_lookup_name);

const struct boot_params *kup_boot_params;

/* find_lookup finds kallsyms_lookup_name, which is not exported either, by the address that a kprobe on it has. */
static int find_lookup(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int err = register_kprobe(&probe);

	if (err) {
		pr_err("kallsyms_lookup_name cannot be found by a kprobe: %d\n", err);
		return err;
	}
	static_call_update(kup_kallsyms_lookup_name, (void *)probe.addr);
	unregister_kprobe(&probe);
	return 0;
}

static void *lookup(const char *name)
{
	void *found = (void *)static_call(kup_kallsyms_lookup_name)(name);

	if (!found)
		pr_err("this kernel has no %s\n", name);
	return found;
}

/* kup_find_symbols must succeed before anything else of the module runs. */
int kup_find_symbols(void)
{
	void *found;
	int err = find_lookup();

	if (err)
		return err;
#define KUP_FIND(name) \
	found = lookup(#name); \
	if (!found) \
		return -ENOENT; \
	static_call_update(kup_##name, found);
	KUP_FUNCTIONS(KUP_FIND)
	kup_boot_params = lookup("boot_params");
	return kup_boot_params ? 0 : -ENOENT;
}
