//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// guidedBlock is a shell block of a page that a test runs.
var guidedBlock = regexp.MustCompile("(?ms)^( *)<!-- (Test[A-Za-z]+) runs this block: ([a-z -]+) -->\n *```sh\n(.*?)^ *```$")

// guide follows a page of docs: it runs the shell blocks that are marked for the test, in a
// directory where a reader would run them.
type guide struct {
	blocks map[string]string
	// dir has the files that the blocks write, and the directory config of the repository.
	dir string
	env []string
}

// follow returns a guide for a page, whose kubectl has the namespace as its default.
func follow(t testing.TB, page, dir, namespace string) *guide {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{blocks: map[string]string{}, dir: dir}
	for _, match := range guidedBlock.FindAllStringSubmatch(string(raw), -1) {
		indent, test, name, block := match[1], match[2], match[3], match[4]
		if test == t.Name() {
			g.blocks[name] = strings.ReplaceAll("\n"+block, "\n"+indent, "\n")
		}
	}
	if err := os.Symlink(filepath.Join(root, "config"), filepath.Join(dir, "config")); err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(kubectl(t, "config", "view", "--raw", "--minify", "--flatten")), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "--kubeconfig", kubeconfig, "config", "set-context", "--current", "--namespace", namespace)
	g.env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	return g
}

// set sets a variable for all blocks that follow.
func (g *guide) set(name, value string) { g.env = append(g.env, name+"="+value) }

// run runs a block, after the block "functions" if the page has one, and returns what it printed.
// replacements are pairs of a placeholder in the block and its value.
func (g *guide) run(t testing.TB, name string, replacements ...string) string {
	t.Helper()
	block, ok := g.blocks[name]
	if !ok {
		t.Fatalf("the page has no block %q for %s", name, t.Name())
	}
	cmd := exec.Command("sh", "-euc", g.blocks["functions"]+strings.NewReplacer(replacements...).Replace(block))
	cmd.Dir, cmd.Env = g.dir, g.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v in the block %q:\n%s\n%s%s", err, name, block, out, g.explain())
	}
	return string(out)
}

// explain returns the logs of the Jobs of the namespace.
func (g *guide) explain() string {
	cmd := exec.Command("sh", "-c", "kubectl get pods -o wide; for job in $(kubectl get jobs -o name); do echo $job; kubectl logs $job; done")
	cmd.Env = g.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v", out, err)
	}
	return string(out)
}
