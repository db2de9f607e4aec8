package vm

import (
	"os"
	"testing"

	"github.com/kup-project/kup/internal/vm/trial"
)

func TestHunt(t *testing.T) {
	line := os.Getenv("HUNT_LINE")
	g, err := trial.Start(t.Context(), trial.Config{Dir: t.TempDir(), Lines: []string{line}, Programs: []string{"/bin/bash"}, Files: build(t, programs)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	p := programs[2]
	must(t, g, "mkdir", "-m", "777", p.dir())
	out, err := g.Output(t.Context(), "sh", "-c", `
cd /data; uname -r
for i in $(seq 1 `+os.Getenv("HUNT_N")+`); do
  rm -rf /data/go/*; rm -f /data/kup/log/go$i.log
  kup run -d --name go$i -- `+p.path()+` /data/go/log /data/go/finish || exit 0
  while ! grep -q ready /data/go/log 2>/dev/null; do sleep 0.1; done
  ok=0
  for k in 1 2 3 4 5 6 7 8 9 10; do kup checkpoint go$i `+os.Getenv("HUNT_CK")+` >/tmp/out 2>&1 && ok=1 && break; done
  [ $ok = 1 ] || { cat /tmp/out; exit 0; }
  `+os.Getenv("HUNT_MID")+`
  kup verify /data/kup/images/go$i/* >/tmp/ver 2>&1 || { echo round $i VERIFY; cat /tmp/ver; }
  rm -f /run/ps.log; kup restore go$i `+os.Getenv("HUNT_RS")+` >>/tmp/out 2>&1 || { echo round $i restore failed; cat /tmp/out; exit 0; }
  sleep 2
  if kup ps | grep -q "go$i .*running" && ! grep -q FAIL /data/go/log && ! grep -q 'marked free\|fatal\|panic\|SIG' /data/kup/log/go$i.log; then :; else echo round $i BROKEN; kup ps; cat /data/go/log | tail -5; head -8 /data/kup/log/go$i.log; cat /tmp/out; cat /run/ps.log | head -60; wc -l /run/ps.log; kup verify /data/kup/images/go$i/* ; ls -la /data/kup/images/go$i/*; fi
  touch /data/go/finish; n=0
  while kup ps | grep -q "go$i .*running" && [ $n -lt 30 ]; do sleep 0.2; n=$((n+1)); done
  kup rm go$i 2>/dev/null
done; echo done $i; dmesg | tail -3; grep -il -r fail /data/kup/log; df /data`)
	t.Log(out, err)
}
