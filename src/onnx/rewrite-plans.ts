/**
 * What may be done to a network when it is loaded: plans of rewrites that leave its answers as they are. Which plan pays
 * is a question to the engine and the machine, so no plan is chosen here (see predictors/choose-rewrites.ts).
 */
import type { Phases } from '../contract/tensor.js'
import { rewriteConvTransposes } from './conv-transpose.js'
import { copyModel } from './model-file.js'
import type { Graph, Model } from './onnx_pb.js'
import { rewriteScalarPrelus } from './scalar-prelu.js'

/** Shape arithmetic on 64-bit lists, as the rewrites make it, is in every operator set from here on. */
const OLDEST_OPSET = 11n

type Rewrite = (graph: Graph, phased: Map<string, Phases>) => number

/** By plan: its rewrites, in order. The names are kept in manifests. */
const PLANS: Readonly<Record<string, Readonly<Record<string, Rewrite>>>> = {
  merged: {
    'ConvTranspose as one Conv': (graph, phased) => rewriteConvTransposes(graph, 'merged', phased),
    'PRelu of one slope as LeakyRelu': rewriteScalarPrelus,
  },
  phases: {
    'ConvTranspose as one Conv a phase': (graph, phased) => rewriteConvTransposes(graph, 'phases', phased),
    'PRelu of one slope as LeakyRelu': rewriteScalarPrelus,
  },
}

export interface RewrittenModel {
  readonly plan: string
  readonly model: Model
  /** By rewrite, how many nodes it replaced. */
  readonly rewrites: Readonly<Record<string, number>>
  /** Outputs that come in phases first. */
  readonly phased: ReadonlyMap<string, Phases>
}

/** The plans that change something in `model`, which stays as it is. Plans that come to the same are given once. */
export function applicablePlans(model: Model): RewrittenModel[] {
  const found = Object.keys(PLANS).flatMap((plan) => applyPlan(model, plan) ?? [])
  const changes = ({ rewrites }: RewrittenModel) => Object.keys(rewrites).join()
  return found.filter((plan, i) => found.findIndex((other) => changes(other) === changes(plan)) === i)
}

/** `model` rewritten by the plan of that name; undefined where the plan is unknown or changes nothing. */
export function applyPlan(model: Model, plan: string): RewrittenModel | undefined {
  const opset = model.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 0n
  if (!model.graph || opset < OLDEST_OPSET || !Object.hasOwn(PLANS, plan)) return undefined
  const copy = copyModel(model)
  const phased = new Map<string, Phases>()
  const counted = Object.entries(PLANS[plan]!).map(([name, rewrite]) => [name, rewrite(copy.graph!, phased)] as const)
  const rewrites = Object.fromEntries(counted.filter(([, count]) => count > 0))
  return Object.keys(rewrites).length > 0 ? { plan, model: copy, rewrites, phased } : undefined
}
