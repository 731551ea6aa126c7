package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-contrib/cors"
	"github.com/gin-gonic/gin"
)

// allowOrigins answers browsers for the listed origins (Fetch standard, CORS protocol). Tokens travel
// in a header, so no credentials are allowed.
func allowOrigins(origins []string) gin.HandlerFunc {
	answer := cors.New(cors.Config{
		AllowOrigins: origins,
		// Asked for an origin that is not listed. Answered here, because cors itself answers without a body.
		AllowOriginWithContextFunc: func(c *gin.Context, _ string) bool {
			failForeignOrigin(c)
			return false
		},
		AllowMethods:  []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete},
		AllowHeaders:  []string{"Authorization", "Content-Type", "If-Match", "Idempotency-Key"},
		ExposeHeaders: []string{"ETag", "Idempotent-Replayed", "Location", "Retry-After", "X-Request-Id"},
		MaxAge:        time.Hour,
	})
	return func(c *gin.Context) {
		// The service's own pages need no permission. cors would compare their origin with the Host
		// header, which a proxy may have changed; no page can set this header.
		if c.GetHeader("Sec-Fetch-Site") != "same-origin" {
			answer(c)
		}
	}
}

// asSent returns the origins as browsers send them, which is without the port of https.
func asSent(origins []string) []string {
	sent := make([]string, len(origins))
	for i, origin := range origins {
		sent[i] = strings.TrimSuffix(origin, ":443")
	}
	return sent
}

// refuseForeignOrigins refuses what pages of origins that are not listed have their visitors' browsers send
// without asking first, which CORS does not prevent: such requests would fail, and so use up the failed
// logins of the visitor's address. What is not a browser says nothing of origins, and is let through.
func refuseForeignOrigins(allowed []string) (gin.HandlerFunc, error) {
	protection := http.NewCrossOriginProtection()
	for _, origin := range allowed {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("allowed origins: %w", err)
		}
	}
	return func(c *gin.Context) {
		if protection.Check(c.Request) != nil {
			failForeignOrigin(c)
		}
	}, nil
}

func failForeignOrigin(c *gin.Context) {
	c.Set(refusedKey, true)
	fail(c, http.StatusForbidden, "Web pages of this origin may not call the API: cors.allowedOrigins does not list it")
}
