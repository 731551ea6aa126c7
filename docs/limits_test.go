package docs_test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// boundPackages are the packages whose constants limit what a client can do.
var boundPackages = []string{
	"../app/internal/httpapi", "../app/internal/ratelimit", "../app/internal/accounts", "../app/internal/notes",
	"../app/internal/server", "../app/config", "../controllers/internal/operand", "../controllers/internal/keyrotation",
	"../controllers/internal/steps", "../controllers/internal/marks", "../controllers/internal/backups", "../controllers/internal/notesbackup", "../controllers/internal/notesrestore", "../controllers/internal/rotations",
	"../controllers/internal/trustedjob", "../app/internal/backup", "../app/internal/backup/destination", "../app/internal/backup/archive",
}

// bound matches the names of constants that limit a client.
var bound = regexp.MustCompile(`^([mM]ax|min|least)[A-Z]|Per(Second|Minute|Hour|Period|Day)$`)

// noBounds are constants with such a name that limit no client, and the reason.
var noBounds = map[string]string{
	"accounts.maxFenced":       "how often a registration restarts when a rotation changes the key meanwhile",
	"notes.maxUpdateAttempts":  "how often an unconditional update restarts because another write came first",
	"notes.maxCounts":          "how many users' counts are cached",
	"httpapi.maxFieldName":     "how much of a client's own text an error quotes",
	"httpapi.MaxMemory":        "the sum of other limits",
	"httpapi.maxPooled":        "which buffers are reused",
	"httpapi.maxFailures":      "limits lines of the log",
	"httpapi.maxAddresses":     "limits a warning in the log",
	"server.minMemoryLimit":    "the other limits are derived from it",
	"ratelimit.maxURISize":     "limits a file of the operator",
	"operand.maxTrimAfter":     "a field of SecureNotes",
	"operand.maxKeepAge":       "a field of SecureNotes",
	"operand.maxBackupJobName": "a longer name is shortened",

	"config.maxFileSize":         "limits a file of the operator",
	"config.maxList":             "fields of SecureNotes",
	"config.MaxNotesPerSecond":   "a field of SecureNotes",
	"config.maxKeepAge":          "a field of SecureNotes",
	"config.minKeepAge":          "a field of SecureNotes",
	"config.maxKeepCount":        "a field of SecureNotes",
	"config.MaxOtherSessionKeys": "a field of the marker in Vault",
	"config.MaxEmptyDatabases":   "a field of the marker in Vault",

	"backup.maxManifest": "how much of a file is read before archive.maxEnvelope refuses it",

	"destination.maxCause":       "how much of a server's text an error quotes",
	"destination.maxRequests":    "ends an operation with a server whose lists do not end",
	"destination.maxUploadPages": "a sweep ends, and the next one continues",

	"rotations.maxRequest": "the operator ignores a longer annotation",

	"steps.MaxSteps": "limits the steps of one pass; a rotation and a backup have fewer",

	"keyrotation.maxNotes":       "a count that no shard can reach",
	"keyrotation.maxSecondsLeft": "an estimate",
	"keyrotation.maxConflicts":   "how often a write to the status is retried after a conflict",
}

// constants are the constants of a package, by name.
type constants struct {
	values map[string]constant.Value
	exprs  map[string]ast.Expr
}

// readConstants adds the integer constants of the files in folder to all, named PACKAGE.CONSTANT.
// It ignores test files.
func readConstants(t *testing.T, folder string, all map[string]constant.Value) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	c := constants{values: map[string]constant.Value{}, exprs: map[string]ast.Expr{}}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				value := spec.(*ast.ValueSpec)
				for i, name := range value.Names {
					if i < len(value.Values) {
						c.exprs[name.Name] = value.Values[i]
					}
				}
			}
		}
	}
	for name, expr := range c.exprs {
		value := c.eval(expr)
		if value.Kind() == constant.String {
			value = mebibytes(constant.StringVal(value))
		}
		if value.Kind() == constant.Int {
			all[filepath.Base(folder)+"."+name] = value
		}
	}
}

// mebibytes parses a quantity such as 512Mi.
func mebibytes(text string) constant.Value {
	digits, isQuantity := strings.CutSuffix(text, "Mi")
	n, err := strconv.ParseInt(digits, 10, 64)
	if !isQuantity || err != nil {
		return constant.MakeUnknown()
	}
	return constant.MakeInt64(n << 20)
}

// eval evaluates numbers, other constants of the package, units of time, and arithmetic.
func (c constants) eval(expr ast.Expr) constant.Value {
	switch e := expr.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0)
	case *ast.ParenExpr:
		return c.eval(e.X)
	case *ast.Ident:
		if other, ok := c.exprs[e.Name]; ok {
			return c.eval(other)
		}
	case *ast.SelectorExpr:
		unit, ok := map[string]time.Duration{"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour}[e.Sel.Name]
		if ok {
			return constant.MakeInt64(int64(unit))
		}
	case *ast.BinaryExpr:
		x, y := c.eval(e.X), c.eval(e.Y)
		if x.Kind() != constant.Int || y.Kind() != constant.Int {
			break
		}
		if e.Op == token.SHL {
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, e.Op, uint(n))
		}
		op := e.Op
		if op == token.QUO {
			op = token.QUO_ASSIGN // go/constant's integer division
		}
		return constant.BinaryOp(x, op, y)
	}
	return constant.MakeUnknown()
}

// amount matches a number and its unit.
var amount = regexp.MustCompile(`^([0-9][0-9,]*)(?: (KiB|MiB|s|min|h|days))?\b`)

// parseAmount parses a cell of the table: a size to bytes, a duration to nanoseconds, else the
// number.
func parseAmount(cell string) (constant.Value, bool) {
	found := amount.FindStringSubmatch(cell)
	if found == nil {
		return nil, false
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(found[1], ",", ""), 10, 64)
	if err != nil {
		return nil, false
	}
	unit := map[string]int64{
		"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "s": int64(time.Second), "min": int64(time.Minute), "h": int64(time.Hour), "days": 24 * int64(time.Hour),
	}[found[2]]
	return constant.MakeInt64(n * unit), true
}

// TestLimitsAreThoseOfTheCode checks that docs/limits.md lists every limit, with the value of the
// code.
func TestLimitsAreThoseOfTheCode(t *testing.T) {
	raw, err := os.ReadFile("limits.md")
	if err != nil {
		t.Fatal(err)
	}
	code := map[string]constant.Value{}
	for _, folder := range boundPackages {
		readConstants(t, folder, code)
	}
	named := map[string]bool{}
	for _, line := range strings.Split(string(raw), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 8 { // six cells, and the empty text before the first and after the last
			continue
		}
		name := strings.Trim(cells[6], " `")
		if !strings.Contains(name, ".") {
			continue // the header row
		}
		named[name] = true
		want, known := code[name]
		got, ok := parseAmount(strings.TrimSpace(cells[2]))
		switch {
		case !known:
			t.Errorf("%s: the code has no such constant", name)
		case !ok || !constant.Compare(got, token.EQL, want):
			t.Errorf("%s: the table says %q, and the code %s", name, strings.TrimSpace(cells[2]), want)
		}
	}
	for name := range code {
		_, short, _ := strings.Cut(name, ".")
		if _, excepted := noBounds[name]; bound.MatchString(short) && !excepted && !named[name] {
			t.Errorf("%s is not in the table", name)
		}
	}
	for name := range noBounds {
		if _, known := code[name]; !known {
			t.Errorf("the exception %s is no constant of the code", name)
		}
	}
	if len(named) < 20 {
		t.Errorf("only %d rows: has the format of the tables changed?", len(named))
	}
}
