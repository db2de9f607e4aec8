package tracee

// crashPoint is called at each step after which kup's death must leave the target unharmed. Tests replace it to die there.
var crashPoint = func(step string) {}
