// Verifies the access tokens on standard input, a line each, as any JavaScript service would; prints their claims.
// node verify.mjs JWKS_URL ISSUER
import { createInterface } from 'node:readline'
import { createRemoteJWKSet, jwtVerify } from 'jose'

const [url, issuer] = process.argv.slice(2)
const keys = createRemoteJWKSet(new URL(url))
for await (const token of createInterface({ input: process.stdin })) {
  const { payload, protectedHeader } = await jwtVerify(token, keys, { issuer, audience: issuer, typ: 'at+jwt' })
  console.log(JSON.stringify({ sub: payload.sub, alg: protectedHeader.alg }))
}
