package firewall

import (
	"maps"
	"slices"
	"strings"
)

// table is one table in the output of iptables-save.
type table struct {
	policies map[string]string // built-in chain to its policy
	chains   []string          // user-defined
	rules    []string          // "-A CHAIN ..." as printed
}

func parse(saved string) map[string]table {
	tables := map[string]table{}
	name := ""
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		t := tables[name]
		switch {
		case strings.HasPrefix(line, "*"):
			name = line[1:]
			tables[name] = table{policies: map[string]string{}}
			continue
		case strings.HasPrefix(line, ":"):
			f := strings.Fields(line[1:])
			if len(f) < 2 {
				continue
			}
			if f[1] == "-" {
				t.chains = append(t.chains, f[0])
			} else {
				t.policies[f[0]] = f[1]
			}
		case strings.HasPrefix(line, "-A "):
			t.rules = append(t.rules, line)
		default:
			continue
		}
		tables[name] = t
	}
	return tables
}

// undo returns the iptables arguments that restore the state before from the state now, for rules
// and chains with a mark. It compares counts: a rule that existed twice before is kept twice.
func undo(before, now map[string]table, marks Marks) [][]string {
	var out [][]string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		old, cur := before[name], now[name]
		had := map[string]int{}
		for _, r := range old.rules {
			had[r]++
		}
		for _, r := range cur.rules {
			if had[r] > 0 {
				had[r]--
				continue
			}
			if marks.on(r) {
				args := words(r)
				args[0] = "-D"
				out = append(out, append([]string{"-t", name}, args...))
			}
		}
		for _, c := range cur.chains {
			if !slices.Contains(old.chains, c) && marks.on(c) {
				out = append(out, []string{"-t", name, "-X", c})
			}
		}
		for _, chain := range slices.Sorted(maps.Keys(cur.policies)) {
			want, ok := old.policies[chain]
			if !ok {
				want = "ACCEPT" // the table did not exist: the kernel's default
			}
			if name == "filter" && chain == "FORWARD" && cur.policies[chain] != want {
				out = append(out, []string{"-t", name, "-P", chain, want})
			}
		}
	}
	return out
}

func (m Marks) on(s string) bool {
	return slices.ContainsFunc(m, func(mark string) bool { return strings.Contains(s, mark) })
}

// words splits a line with the quoting of iptables-save: double quotes around a value, and
// backslashes inside it.
func words(line string) []string {
	var (
		out    []string
		word   strings.Builder
		quoted bool
		open   bool
	)
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word.WriteByte(line[i])
		case c == '"':
			quoted, open = !quoted, true
		case c == ' ' && !quoted:
			if open || word.Len() > 0 {
				out = append(out, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteByte(c)
		}
	}
	if open || word.Len() > 0 {
		out = append(out, word.String())
	}
	return out
}
