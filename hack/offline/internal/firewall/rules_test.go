package firewall

import (
	"slices"
	"strings"
	"testing"
)

const before = `*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:MINE - [0:0]
-A FORWARD -j MINE
-A MINE -s 10.0.0.0/8 -m comment --comment "keep \"me\", DOCKER too" -j ACCEPT
COMMIT
`

const after = `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:MINE - [0:0]
:OTHERS - [0:0]
-A FORWARD -j DOCKER
-A FORWARD -j MINE
-A FORWARD -j OTHERS
-A DOCKER -o br-sn -m comment --comment "a b" -j ACCEPT
-A MINE -s 10.0.0.0/8 -m comment --comment "keep \"me\", DOCKER too" -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
COMMIT
`

func TestUndoTakesBackOnlyWhatDockerAdded(t *testing.T) {
	want := []string{
		"-t filter -D FORWARD -j DOCKER",
		"-t filter -D DOCKER -o br-sn -m comment --comment a b -j ACCEPT",
		"-t filter -X DOCKER",
		"-t filter -P FORWARD ACCEPT",
		"-t nat -D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
		"-t nat -X DOCKER",
	}
	var got []string
	for _, c := range undo(parse(before), parse(after), Marks{"DOCKER", "br-sn"}) {
		got = append(got, strings.Join(c, " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestUndoOfNothingIsNothing(t *testing.T) {
	if got := undo(parse(before), parse(before), Marks{"DOCKER", "MINE"}); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestWordsKeepQuotedValuesWhole(t *testing.T) {
	got := words(`-A MINE --comment "keep \"me\" here" -j ACCEPT --x ""`)
	want := []string{"-A", "MINE", "--comment", `keep "me" here`, "-j", "ACCEPT", "--x", ""}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
