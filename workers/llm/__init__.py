"""What the stages of the model type `llm` are made of: a file a stage, in their order; `pipelines/llm.py` is the road.

params   what a definition may say         stages   which stage is done, and what it left
prepare  conversations → token rows        sft, curriculum   the adapter
preference, rewards   the adapter that prefers              merge, try_out   one model again, and a look at it
export, converter, parity   GGUF as it is served             pull     a model that somebody else has trained
plan     a dry run                         gpu      what is free, who holds it, and giving it back
trackers, launch      beside a training
"""
