package httpapi

import (
	_ "embed"
	"net/http"

	"github.com/gin-gonic/gin"
)

// The page at /docs is generated from openapi.yaml by hack/apidocs. Its style sheet is a separate
// file because the Content-Security-Policy does not allow inline styles.
var (
	//go:embed docs.html
	docsPage []byte
	//go:embed docs.css
	docsStyle []byte
)

func docs(c *gin.Context) { c.Data(http.StatusOK, "text/html; charset=utf-8", docsPage) }

func docsCSS(c *gin.Context) { c.Data(http.StatusOK, "text/css; charset=utf-8", docsStyle) }
