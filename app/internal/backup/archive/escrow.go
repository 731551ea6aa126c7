package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Escrow reads an escrow file beside the archive whose keys it holds.
type Escrow struct {
	r         *Reader
	canaryKey []byte
	// owner and id are of the row that was read last.
	owner, id string
}

// Pepper is a row of the escrow's table peppers.
type Pepper struct {
	ID    string
	Value []byte
}

const (
	// keySize is the size of an owner key, in bytes.
	keySize = 32
	// maxPepper bounds a pepper, in bytes.
	maxPepper = 1 << 10
)

// NewEscrow reads the first row of an escrow file, the key of the archive's canary.
func NewEscrow(r *Reader, archive Contents) (*Escrow, error) {
	c := r.Contents()
	if archive.Canary == nil || c.ID != archive.ID || c.DeploymentID != archive.DeploymentID || c.Schema != archive.Schema {
		return nil, damaged(r.name, "it does not belong to the archive of the same backup")
	}
	e := &Escrow{r: r}
	key, err := e.next(CanaryOwner, archive.Canary.ID)
	if err != nil {
		return nil, err
	}
	e.canaryKey = bytes.Clone(key)
	return e, nil
}

// CanaryKey returns the key of the canary.
func (e *Escrow) CanaryKey() []byte { return e.canaryKey }

// CurrentPepper returns the id of the pepper of new password hashes.
func (e *Escrow) CurrentPepper() string { return e.r.Contents().CurrentPepper }

// Key returns the key for the next row of the archive's owner_keys, which is valid until the next
// call. Both files have the rows in ascending order of owner and id, so every key is there once.
func (e *Escrow) Key(owner, id string) ([]byte, error) {
	if e.owner != CanaryOwner && compareKeys(e.owner, e.id, owner, id) >= 0 {
		return nil, damaged(e.r.name, fmt.Sprintf("the archive does not have the keys of owner %q in ascending order, or has one twice", owner))
	}
	return e.next(owner, id)
}

func compareKeys(owner, id, otherOwner, otherID string) int {
	if n := strings.Compare(owner, otherOwner); n != 0 {
		return n
	}
	return strings.Compare(id, otherID)
}

// next reads the key of the given owner and id, which must be in the next row.
func (e *Escrow) next(owner, id string) ([]byte, error) {
	table, values, err := e.r.Next()
	if errors.Is(err, io.EOF) || err == nil && table != 0 {
		return nil, damaged(e.r.name, fmt.Sprintf("it lacks the key %q of owner %q, which the archive has", id, owner))
	}
	if err != nil {
		return nil, err
	}
	gotOwner, _ := values[0].(string)
	gotID, _ := values[1].(string)
	key, _ := values[2].([]byte)
	if gotOwner != owner || gotID != id {
		return nil, damaged(e.r.name, fmt.Sprintf("it has the key %q of owner %q where the archive has the key %q of owner %q", gotID, gotOwner, id, owner))
	}
	if len(key) != keySize {
		return nil, damaged(e.r.name, fmt.Sprintf("the key %q of owner %q has %d bytes instead of %d", id, owner, len(key), keySize))
	}
	e.owner, e.id = owner, id
	return key, nil
}

// CheckPeppers returns an error if so many peppers are too many for an escrow file.
func CheckPeppers(n int) error {
	if n > maxPeppers {
		return fmt.Errorf("%d peppers, and an escrow file has at most %d: back up without escrow", n, maxPeppers)
	}
	return nil
}

// Finish reads the rest: no further key, and peppers in ascending order of their ids. The current
// one and those that the manifest names are among them. Others may be there for recovery codes.
func (e *Escrow) Finish(m *Manifest) ([]Pepper, error) {
	want := slices.Concat(m.Peppers, []string{e.CurrentPepper()})
	slices.Sort(want)
	var peppers []Pepper
	for {
		table, values, err := e.r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		id, _ := values[0].(string)
		if table == 0 {
			return nil, damaged(e.r.name, fmt.Sprintf("it has a key of owner %q that the archive lacks", id))
		}
		value, _ := values[1].([]byte)
		if len(value) == 0 || len(value) > maxPepper {
			return nil, damaged(e.r.name, fmt.Sprintf("the pepper %q has %d bytes, and the limit is %d", id, len(value), maxPepper))
		}
		if len(peppers) == maxPeppers || len(peppers) > 0 && peppers[len(peppers)-1].ID >= id {
			return nil, damaged(e.r.name, fmt.Sprintf("it has the pepper %q, which is not in ascending order or is more than the limit of %d", id, maxPeppers))
		}
		peppers = append(peppers, Pepper{id, bytes.Clone(value)})
	}
	for _, id := range want {
		if !slices.ContainsFunc(peppers, func(p Pepper) bool { return p.ID == id }) {
			return nil, damaged(e.r.name, fmt.Sprintf("it lacks the pepper %q, which passwords need", id))
		}
	}
	return peppers, nil
}
