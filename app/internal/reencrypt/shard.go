package reencrypt

import (
	"fmt"
	"math/big"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/store"
)

// MaxShards bounds how many processes share one rotation.
const MaxShards = 64

// Shard returns one of count parts of the owners. Owner ids are random UUIDs, so equal ranges of
// ids have about equally many owners.
func Shard(index, count int) (store.OwnerRange, error) {
	if count < 1 || count > MaxShards || index < 0 || index >= count {
		return store.OwnerRange{}, fmt.Errorf("shard %d of %d: the count must be 1 to %d, the index 0 to count-1", index, count, MaxShards)
	}
	r := store.OwnerRange{From: boundary(index, count)}
	if index+1 < count {
		r.To = boundary(index+1, count)
	}
	return r, nil
}

// boundary returns the first owner id of a part.
func boundary(index, count int) string {
	at := new(big.Int).Lsh(big.NewInt(int64(index)), 128)
	at.Div(at, big.NewInt(int64(count)))
	var id uuid.UUID
	at.FillBytes(id[:])
	return id.String()
}
