// Makes the built-in objects tell nothing that a replay would not tell again. Runs first in every realm.
import { time, random } from "aios:native";

const MachineDate = Date;

function FlowDate(...args) {
	if (new.target === undefined)
		return new MachineDate(time()).toString();
	return Reflect.construct(MachineDate, args.length === 0 ? [time()] : args, new.target);
}

const hidden = (value) => ({ value, writable: true, enumerable: false, configurable: true });

Object.defineProperties(FlowDate, {
	name: { value: "Date", configurable: true },
	length: { value: 7, configurable: true },
	prototype: { value: MachineDate.prototype, writable: false },
	now: hidden(() => time()),
	parse: hidden(MachineDate.parse),
	UTC: hidden(MachineDate.UTC),
});
Object.defineProperty(MachineDate.prototype, "constructor", hidden(FlowDate));
Object.defineProperty(globalThis, "Date", hidden(FlowDate));
Object.defineProperty(Math, "random", hidden(() => random()));

// What would see the garbage collector, the machine's clock or another thread; and two settings that runs would share.
for (const name of ["SharedArrayBuffer", "Atomics", "WeakRef", "FinalizationRegistry", "performance", "eval"])
	delete globalThis[name];
for (const name of ["prepareStackTrace", "stackTraceLimit"])
	delete Error[name];
