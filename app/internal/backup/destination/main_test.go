package destination

import (
	"os"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// TestMain shortens the pauses between the client's attempts.
func TestMain(m *testing.M) {
	minio.DefaultRetryUnit, minio.DefaultRetryCap = time.Millisecond, 20*time.Millisecond
	os.Exit(m.Run())
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }
