# syntax=docker/dockerfile:1
# docker build -t aidant .                    CPU
# docker build -t aidant:cuda --build-arg BASE=cuda .    CUDA 13 and cuDNN 9 (run with --gpus all)
ARG BASE=cpu

FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY src src
RUN npm run build && npm prune --omit=dev

FROM node:24-bookworm-slim AS base-cpu

FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS base-cuda
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm

FROM base-${BASE} AS final
ARG BASE
WORKDIR /app
COPY --from=build /app/package.json /app/.npmrc ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY scripts scripts
COPY models models
COPY LICENSE NOTICE README.md ./
RUN if [ "$BASE" = cuda ]; then node scripts/install-cuda.mjs; fi \
  && mkdir /workspace && chown 1000:0 /workspace && chmod g+rwx /workspace
USER 1000
VOLUME /workspace
EXPOSE 5000
ENV NODE_ENV=production AIDANT_HOST=0.0.0.0 AIDANT_WORKSPACE=/workspace
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["node", "/app/scripts/health.mjs"]
ENTRYPOINT ["node", "/app/dist/cli/main.js", "serve"]
